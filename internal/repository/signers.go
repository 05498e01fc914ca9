package repository

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"slices"

	"github.com/secure-systems-lab/go-securesystemslib/cjson"
	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// signers returns the beginnings of the IDs of the keys that have signed a role.
func (t *trust) signers(role string) (ids []string) {
	targets := t.set.Targets[role]
	keys := t.set.Root.Signed.Keys
	for _, parent := range t.set.Targets {
		if d := parent.Signed.Delegations; role != metadata.TARGETS && d != nil && slices.Contains(roleNames(d), role) {
			keys = d.Keys
		}
	}
	payload, err := cjson.EncodeCanonical(targets.Signed)
	if err != nil {
		return nil // it could not have been verified
	}
	for _, s := range targets.Signatures {
		if key := keys[s.KeyID]; key != nil && verifies(key, payload, s.Signature) {
			ids = append(ids, s.KeyID[:min(len(s.KeyID), 8)])
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// verifies reports whether a signature is a key's. It is for display: what is believed
// go-tuf has verified.
func verifies(key *metadata.Key, payload, sig []byte) bool {
	public, err := key.ToPublicKey()
	if err != nil {
		return false
	}
	hash := crypto.SHA256
	switch {
	case key.Type == metadata.KeyTypeEd25519:
		hash = 0
	case key.Scheme == metadata.KeySchemeECDSA_SHA2_P384:
		hash = crypto.SHA384
	}
	var v signature.Verifier
	if rsa, ok := public.(*rsa.PublicKey); ok {
		v, err = signature.LoadRSAPSSVerifier(rsa, hash, nil)
	} else {
		v, err = signature.LoadVerifier(public, hash)
	}
	if err != nil {
		return false
	}
	_, err = guard(func() (any, error) { // a key of another length than its kind has is a panic
		return nil, v.VerifySignature(bytes.NewReader(sig), bytes.NewReader(payload))
	})
	return err == nil
}
