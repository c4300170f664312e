package ca

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"time"
)

// crlBlock is the PEM type of certificate revocation lists (RFC 7468).
const crlBlock = "X509 CRL"

// revocations are the certificate revocation lists that came with a root.
type revocations struct {
	pem   []byte // empty for none
	lists []*x509.RevocationList
}

// parseRevocations reads the lists of a plugged-in authority. Envoy refuses
// every certificate of an authority that has no list once any has one, so each
// certificate that can sign must have one: the chain's and the roots.
func parseRevocations(text []byte, now time.Time, signers ...*x509.Certificate) (revocations, error) {
	var out revocations
	if len(bytes.TrimSpace(text)) == 0 {
		return out, nil
	}
	for rest := text; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			if len(bytes.TrimSpace(rest)) > 0 || len(out.lists) == 0 {
				return revocations{}, fmt.Errorf("%s: %d bytes are no PEM", crlKey, len(rest))
			}
			break
		}
		if block.Type != crlBlock {
			return revocations{}, fmt.Errorf("%s: holds a PEM block %q, want %s only", crlKey, block.Type, crlBlock)
		}
		list, err := x509.ParseRevocationList(block.Bytes)
		if err != nil {
			return revocations{}, fmt.Errorf("%s: %w", crlKey, err)
		}
		if !list.NextUpdate.IsZero() && now.After(list.NextUpdate) {
			return revocations{}, fmt.Errorf("%s: the list of %s was to be replaced by %s: proxies would refuse all certificates",
				crlKey, list.Issuer, list.NextUpdate.UTC().Format(time.RFC3339))
		}
		out.lists = append(out.lists, list)
		out.pem = append(out.pem, pem.EncodeToMemory(&pem.Block{Type: crlBlock, Bytes: block.Bytes})...)
	}
	for _, c := range signers {
		if out.of(c) == nil {
			return revocations{}, fmt.Errorf("%s has no list that %s has signed: proxies would refuse every certificate of it", crlKey, c.Subject)
		}
	}
	return out, nil
}

// of is the list that an authority has signed, or nil.
func (r *revocations) of(authority *x509.Certificate) *x509.RevocationList {
	for _, l := range r.lists {
		if bytes.Equal(l.RawIssuer, authority.RawSubject) && l.CheckSignatureFrom(authority) == nil {
			return l
		}
	}
	return nil
}

// refuses returns an error if a certificate of a verified chain, which ends with
// a root, is revoked.
func (r *revocations) refuses(chain []*x509.Certificate) error {
	for i, c := range chain[:max(len(chain)-1, 0)] {
		list := r.of(chain[i+1])
		if list == nil {
			continue
		}
		for _, e := range list.RevokedCertificateEntries {
			if e.SerialNumber.Cmp(c.SerialNumber) == 0 {
				return fmt.Errorf("the certificate of serial number %x was revoked at %s", c.SerialNumber, e.RevocationTime.UTC().Format(time.RFC3339))
			}
		}
	}
	return nil
}

// revokesNothing is a root's own list, for where others have one.
func (r *Root) revokesNothing() (*x509.RevocationList, error) {
	c := r.chain[0]
	if c.KeyUsage&x509.KeyUsageCRLSign == 0 || len(c.SubjectKeyId) == 0 {
		return nil, errors.New("the certificate may not sign revocation lists")
	}
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: c.NotBefore, NextUpdate: c.NotAfter}, c, r.key)
	if err != nil {
		return nil, err
	}
	return x509.ParseRevocationList(der)
}

// Revoked returns an error if a certificate of a verified chain is revoked.
func (a *Authority) Revoked(chain []*x509.Certificate) error {
	root := a.Root()
	if root == nil {
		return nil
	}
	return root.revoked.refuses(chain)
}

// RevocationLists is the PEM of the lists that proxies check certificates by;
// empty for none. It may be another one when the channel of TrustBundle is
// closed.
func (a *Authority) RevocationLists() []byte {
	root := a.Root()
	if root == nil {
		return nil
	}
	return root.revoked.pem
}
