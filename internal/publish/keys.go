package publish

import (
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/secure-systems-lab/go-securesystemslib/encrypted"
	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// keyFile is a file with a key. The file for others has Public alone.
type keyFile struct {
	Type   string `json:"keytype"` // ed25519
	Public string `json:"public"`  // in hexadecimal
	// Private is the seed of the private key (RFC 8032 5.1.5), in hexadecimal, if it is
	// not encrypted.
	Private string `json:"private,omitempty"`
	// Encrypted is the seed by scrypt and NaCl's secretbox.
	Encrypted json.RawMessage `json:"encrypted,omitempty"`
}

// PublicSuffix is what the name of the file for others ends in.
const PublicSuffix = ".pub"

const maxKeyFile = 64 << 10

// Key is a key that signs metadata.
type Key struct {
	ID     string
	signer signature.Signer
	public *metadata.Key
}

// NewKey makes a key in a file that does not exist yet, and its public part in one whose
// name has PublicSuffix. With an empty passphrase it is not encrypted.
func NewKey(file string, passphrase []byte) (*Key, error) {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		return nil, err
	}
	k := keyFile{Type: metadata.KeyTypeEd25519, Public: hex.EncodeToString(public)}
	if err := writeNew(file+PublicSuffix, k, 0o644); err != nil {
		return nil, err
	}
	if len(passphrase) == 0 {
		k.Private = hex.EncodeToString(private.Seed())
	} else if k.Encrypted, err = encrypted.EncryptWithCustomKDFParameters(private.Seed(), passphrase, encrypted.OWASP); err != nil {
		return nil, err
	}
	if err := writeNew(file, k, 0o600); err != nil {
		return nil, err
	}
	return newKey(private)
}

// writeNew writes a file that does not exist yet: a key that is overwritten is lost.
func writeNew(file string, v any, mode os.FileMode) (err error) {
	text, err := json.MarshalIndent(v, "", "\t")
	if err != nil {
		return err
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(append(text, '\n'))
	return errors.Join(err, f.Sync(), f.Close())
}

func newKey(private ed25519.PrivateKey) (*Key, error) {
	signer, err := signature.LoadED25519Signer(private)
	if err != nil {
		return nil, err
	}
	k := &Key{signer: signer}
	if k.public, err = metadata.KeyFromPublicKey(private.Public()); err != nil {
		return nil, err
	}
	k.ID, err = k.public.ID()
	return k, err
}

// ReadKey reads a key. passphrase is asked for only if the key is encrypted.
func ReadKey(file string, passphrase func() ([]byte, error)) (*Key, error) {
	k, err := readKeyFile(file)
	if err != nil {
		return nil, err
	}
	var seed []byte
	switch {
	case k.Private != "":
		seed, err = hex.DecodeString(k.Private)
	case k.Encrypted != nil:
		var phrase []byte
		if phrase, err = passphrase(); err != nil {
			return nil, err
		}
		if seed, err = encrypted.Decrypt(k.Encrypted, phrase); err != nil {
			err = errors.New("the passphrase is not the right one, or the file is damaged")
		}
	default:
		err = errors.New("it has only the public part of a key")
	}
	if err == nil && len(seed) != ed25519.SeedSize {
		err = errors.New("it is damaged")
	}
	if err != nil {
		return nil, fmt.Errorf("the key file %s: %w", file, err)
	}
	return newKey(ed25519.NewKeyFromSeed(seed))
}

// readPublic reads the public part of a key, from either file.
func readPublic(file string) (*metadata.Key, error) {
	k, err := readKeyFile(file)
	if err != nil {
		return nil, err
	}
	public, err := hex.DecodeString(k.Public)
	if err != nil || len(public) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("the key file %s: it is damaged", file)
	}
	return metadata.KeyFromPublicKey(ed25519.PublicKey(public))
}

func readKeyFile(file string) (k keyFile, err error) {
	text, err := readFile(file, maxKeyFile)
	if err != nil {
		return k, err
	}
	if err := json.Unmarshal(text, &k); err != nil || k.Type != metadata.KeyTypeEd25519 {
		return k, fmt.Errorf("%s is no key file", file)
	}
	return k, nil
}
