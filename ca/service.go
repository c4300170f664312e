package ca

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"
	security "istio.io/api/security/v1alpha1"
)

// Service is the gRPC service istio.v1.auth.IstioCertificateService over an
// Authority.
type Service struct {
	security.UnimplementedIstioCertificateServiceServer
	Authority *Authority
	Callers   *Authenticator
	// Check, unless nil, refuses proven callers that something else speaks
	// against.
	Check   func(Caller) error
	Metrics *Metrics
}

// Register makes a grpc.Server serve s.
func (s *Service) Register(g *grpc.Server) { security.RegisterIstioCertificateServiceServer(g, s) }

// CreateCertificate signs a request for who the caller has proven to be.
func (s *Service) CreateCertificate(ctx context.Context, r *security.IstioCertificateRequest) (*security.IstioCertificateResponse, error) {
	s.Metrics.requests.Inc()
	caller, err := s.Callers.Authenticate(ctx)
	if err == nil && s.Check != nil {
		err = s.Check(caller)
	}
	if err != nil {
		s.Metrics.unauthenticated.Inc()
		return nil, s.failed(err)
	}
	chain, err := s.sign(r, caller)
	if err != nil {
		return nil, s.failed(err)
	}
	s.Metrics.issued.Inc()
	return &security.IstioCertificateResponse{CertChain: chain}, nil
}

func (s *Service) sign(r *security.IstioCertificateRequest, c Caller) ([]string, error) {
	for key, v := range r.GetMetadata().GetFields() {
		if _, text := v.GetKind().(*structpb.Value_StringValue); text && v.GetStringValue() == "" {
			continue // Istio's agent always names its signer, with nothing for the mesh's own authority
		}
		switch key {
		case "CertSigner":
			return nil, refuse(Unsupported, "metadata CertSigner: certificates of other signers are not issued here")
		case "ImpersonatedIdentity":
			return nil, refuse(Unsupported, "metadata ImpersonatedIdentity: certificates are issued to the caller itself only")
		}
	}
	if r.GetValidityDuration() < 0 {
		return nil, refuse(BadRequest, "validity_duration is %d seconds: want 0 or more", r.GetValidityDuration())
	}
	// A duration that overflows is longer than every cap.
	lifetime := time.Duration(min(r.GetValidityDuration(), 1<<31)) * time.Second
	return s.Authority.Sign([]byte(r.GetCsr()), c.Identity, lifetime, s.Callers.Domains()...)
}

// failed counts an error and gives it its status. What is not the caller's
// fault is worth another try: Unavailable.
func (s *Service) failed(err error) error {
	s.Metrics.refused(err)
	return Status(err)
}

// Status is an error of this package as a gRPC status.
func Status(err error) error {
	var r *Refusal
	if !errors.As(err, &r) {
		return status.Error(codes.Unavailable, err.Error())
	}
	switch r.Reason {
	case Unauthenticated:
		return status.Error(codes.Unauthenticated, r.text)
	case OtherIdentity:
		return status.Error(codes.PermissionDenied, r.text)
	case Unsupported:
		return status.Error(codes.Unimplemented, r.text)
	}
	return status.Error(codes.InvalidArgument, r.text)
}
