package translate

import (
	"math"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	xdstype "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	networking "istio.io/api/networking/v1alpha3"
)

// perMillion is a percentage in the finest steps that Envoy knows: 0.0001 %.
func perMillion(p *networking.Percent) *xdstype.FractionalPercent {
	return &xdstype.FractionalPercent{
		Numerator:   uint32(math.Round(p.GetValue() * 10000)),
		Denominator: xdstype.FractionalPercent_MILLION,
	}
}

// fractionOr100 is a share of requests: all of them if it is not given, nil
// if it is given as 0.
func fractionOr100(p *networking.Percent) *core.RuntimeFractionalPercent {
	if p == nil {
		return wholePercent(100)
	}
	if p.GetValue() <= 0 {
		return nil
	}
	return &core.RuntimeFractionalPercent{DefaultValue: perMillion(p)}
}

// wholePercent is a share of requests in percent; nil for 0.
func wholePercent(n uint32) *core.RuntimeFractionalPercent {
	if n == 0 {
		return nil
	}
	return &core.RuntimeFractionalPercent{DefaultValue: &xdstype.FractionalPercent{Numerator: n}}
}
