package translate

import (
	"google.golang.org/protobuf/reflect/protoreflect"
)

// checkTarget tests where a provider sends to.
func checkTarget(r *Report, v protoreflect.Value) {
	x, ok := v.Message().Interface().(interface {
		GetService() string
		GetPort() uint32
	})
	if !ok {
		return
	}
	if fault := targetFault(target{x.GetService(), x.GetPort()}); fault != "" {
		r.Errorf("ProviderInvalid", "%s: nothing is sent to it", fault)
	}
}

func checkOpenTelemetry(r *Report, v protoreflect.Value) {
	checkTarget(r, v)
	p, ok := v.Message().Interface().(*otelProvider)
	if !ok {
		return
	}
	s := p.GetDynatraceSampler()
	switch own := s.GetHttpService(); {
	case p.GetHttp() != nil && p.GetGrpc() != nil:
		r.WarnAt("grpc", "NoEffect", "has no effect beside http")
	case s == nil:
	case own == nil && p.GetHttp() == nil:
		r.ErrorAt("dynatraceSampler.httpService", "Missing", "is not set, and neither is http: nobody says how much is sampled; the sampler is left out")
	case own != nil && targetFault(target{own.GetService(), own.GetPort()}) != "":
		r.ErrorAt("dynatraceSampler.httpService", "ProviderInvalid", "%s; the sampler is left out", targetFault(target{own.GetService(), own.GetPort()}))
	}
}

func checkPercentage(r *Report, v protoreflect.Value) {
	if p := v.Float(); !(p >= 0 && p <= 100) {
		r.Errorf("OutOfRange", "is %g; want a percentage from 0 to 100; %g is used", p, defaultSampling)
	}
}
