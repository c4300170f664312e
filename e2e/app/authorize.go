//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	auth "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
)

// permission is the header whose value "allow" lets a request in, as with the
// authorizer of Istio's documentation.
const permission = "x-ext-authz"

// authorizer decides over gRPC; its answer says whom it decided about.
type authorizer struct {
	auth.UnimplementedAuthorizationServer
}

// Check implements auth.AuthorizationServer.
func (authorizer) Check(_ context.Context, r *auth.CheckRequest) (*auth.CheckResponse, error) {
	if r.GetAttributes().GetRequest().GetHttp().GetHeaders()[permission] != "allow" {
		return &auth.CheckResponse{Status: &status.Status{Code: int32(code.Code_PERMISSION_DENIED)}}, nil
	}
	return &auth.CheckResponse{
		Status: &status.Status{Code: int32(code.Code_OK)},
		HttpResponse: &auth.CheckResponse_OkResponse{OkResponse: &auth.OkHttpResponse{Headers: []*core.HeaderValueOption{
			{Header: &core.HeaderValue{Key: "x-decided-for", Value: r.GetAttributes().GetSource().GetPrincipal()}},
		}}},
	}, nil
}

// authorize is an external authorizer: HTTP on port 8000, gRPC on 9000.
func authorize(ctx context.Context) error {
	l, err := net.Listen("tcp", ":9000")
	if err != nil {
		return err
	}
	g := grpc.NewServer()
	auth.RegisterAuthorizationServer(g, authorizer{})
	defer g.Stop()
	go func() { _ = g.Serve(l) }()
	return serveHTTP(ctx, ":8000", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get(permission) != "allow" {
			http.Error(w, "refused by the authorizer", http.StatusForbidden)
			return
		}
		w.Header().Set("x-decided-for", r.URL.Path)
	}))
}

// files serves a folder.
func files(ctx context.Context, args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("files wants an address and a folder")
	}
	return serveHTTP(ctx, args[0], http.FileServer(http.Dir(args[1])))
}

func serveHTTP(ctx context.Context, address string, h http.Handler) error {
	s := &http.Server{Addr: address, Handler: h, ReadHeaderTimeout: time.Minute}
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	defer stop()
	if err := s.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
