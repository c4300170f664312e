package pod

import (
	"context"

	"go.uber.org/zap"

	"github.com/pilotfish-mesh/pilotfish/agent/patched"
)

// patched is what EnvoyFilters make of a bootstrap, in Envoy's binary form; nil if
// nothing.
func (r *runner) patched(ctx context.Context, bootstrap []byte) ([]byte, error) {
	if r.settings.get("ENABLE_BOOTSTRAP_XDS", "") == "false" {
		return nil, nil
	}
	node, err := r.settings.protoNode()
	if err != nil {
		return nil, err
	}
	if r.source != nil {
		select {
		case <-r.source.Ready():
		case <-ctx.Done():
			return nil, nil
		}
	}
	r.admin.waits.Store(true)
	defer r.admin.waits.Store(false)
	c := &patched.Client{Connect: r.connect, Node: node, Log: r.log.Named("bootstrap")}
	out := c.Wait(ctx, bootstrap)
	if out != nil {
		r.log.Info("EnvoyFilters change the bootstrap", zap.Int("bytes", len(out)))
	}
	return out, nil
}
