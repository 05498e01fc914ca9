// Package release has what a repository says of a module besides its bytes: the custom
// part of a TUF target (TUF 4.5), signed with its length and hash.
package release

import (
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"waterproxy/internal/ptargs"
)

// Release is one version of a transport's module. Nothing in it grants the module
// anything: Needs say what its operator has to grant.
type Release struct {
	// Transport is the name by which users ask for it (pt-spec 3.2).
	Transport string `json:"transport,omitempty"`
	// Version is of the author's choice, such as 1.4.0.
	Version string `json:"version,omitempty"`
	// ABI is that of the module (docs/abi.md); "" if unknown.
	ABI   string `json:"abi,omitempty"`
	Needs Needs  `json:"needs,omitzero"`
	// Minimum is the oldest waterproxy that can run it; "" for any.
	Minimum string `json:"minimum,omitempty"`
	// Description is a line for people.
	Description string `json:"description,omitempty"`
}

// Needs are what a module cannot do without. The zero value is nothing.
type Needs struct {
	// HostCrypto is the program's cryptography.
	HostCrypto bool `json:"host-crypto,omitempty"`
	// Allow are addresses that it dials by its own choice; see transport.AddressRule.
	Allow []string `json:"allow,omitempty"`
	// State is a directory of its own.
	State bool `json:"state,omitempty"`
	// Memory is what an instance takes, in bytes; 0 for no more than any may.
	Memory uint64 `json:"memory,omitempty"`
	// Threads are those of an instance besides its first.
	Threads int `json:"threads,omitempty"`
}

// Limits of what a repository may say.
const (
	MaxVersion     = 64  // bytes of a version
	maxDescription = 200 // bytes of a description
	maxAllow       = 32  // addresses
	maxAllowText   = 300 // bytes of an address
	maxPath        = 200 // bytes of a target's path
	suffix         = ".wasm"
)

// Path returns the path of the target that has a transport's module, unless its repository
// says otherwise.
func Path(transport string) string { return transport + suffix }

// Parse reads what the target at a path says of itself. A target without a custom part, as
// other publishers make them, is the transport of its file's name, with no version. It
// returns ok = false for one that is no module at all.
func Parse(target string, custom *json.RawMessage) (r Release, ok bool, err error) {
	if custom != nil {
		if err := json.Unmarshal(*custom, &r); err != nil {
			return r, true, fmt.Errorf("its custom metadata is malformed: %w", err)
		}
	}
	if r.Transport == "" {
		name, isModule := strings.CutSuffix(path.Base(target), suffix)
		if !isModule {
			return r, false, nil
		}
		r.Transport = name
	}
	if err := CheckPath(target); err != nil {
		return r, true, err
	}
	return r, true, r.Check()
}

// Check returns what is wrong with a release.
func (r Release) Check() error {
	if err := ptargs.CheckName(r.Transport); err != nil {
		return fmt.Errorf("%q is no transport name: %w", r.Transport, err)
	}
	if len(r.Version) > MaxVersion || strings.ContainsFunc(r.Version, notVersion) {
		return fmt.Errorf("%.100q is no version: it has at most %d letters, digits and the characters . _ + -", r.Version, MaxVersion)
	}
	if len(r.ABI) > MaxVersion || strings.ContainsFunc(r.ABI, notPrintable) {
		return fmt.Errorf("%.100q is no ABI", r.ABI)
	}
	if _, err := parseVersion(r.Minimum); r.Minimum != "" && err != nil {
		return fmt.Errorf("the minimum version of waterproxy: %w", err)
	}
	if len(r.Description) > maxDescription || !utf8.ValidString(r.Description) || strings.ContainsFunc(r.Description, notPrintable) {
		return fmt.Errorf("its description is not one printable line of at most %d bytes", maxDescription)
	}
	if len(r.Needs.Allow) > maxAllow {
		return fmt.Errorf("it needs %d addresses, which is more than %d", len(r.Needs.Allow), maxAllow)
	}
	for _, rule := range r.Needs.Allow {
		if len(rule) > maxAllowText || strings.ContainsFunc(rule, notPrintable) {
			return fmt.Errorf("%.100q is no address that a module could need", rule)
		}
	}
	if r.Needs.Threads < 0 {
		return errors.New("it needs a negative number of threads")
	}
	return nil
}

func notPrintable(c rune) bool { return !unicode.IsPrint(c) }

func notVersion(c rune) bool {
	return (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && !strings.ContainsRune("._+-", c)
}

// CheckPath returns an error for a target whose path could lead out of a repository's
// folder, or be taken for something else than a path by a server or a shell.
func CheckPath(target string) error {
	bad := func(why string) error { return fmt.Errorf("the target path %.220q %s", target, why) }
	switch {
	case target == "" || len(target) > maxPath:
		return bad(fmt.Sprintf("has not between 1 and %d bytes", maxPath))
	case strings.ContainsFunc(target, func(c rune) bool { return notVersion(c) && c != '/' }):
		return bad("has other characters than letters, digits and . _ + - /")
	case path.Clean("/"+target) != "/"+target:
		return bad("is not a plain relative path")
	}
	for part := range strings.SplitSeq(target, "/") {
		if part[0] == '.' {
			return bad("has a hidden part")
		}
	}
	return nil
}

// Runs returns an error unless a waterproxy of the version can run the release.
func (r Release) Runs(version string) error {
	if r.Minimum == "" {
		return nil
	}
	least, err := parseVersion(r.Minimum)
	if err != nil {
		return err
	}
	have, err := parseVersion(version)
	if err != nil {
		return err
	}
	for i := range least {
		if have[i] != least[i] {
			if have[i] < least[i] {
				return fmt.Errorf("it needs waterproxy %s or later, and this is %s", r.Minimum, version)
			}
			break
		}
	}
	return nil
}

// parseVersion reads N[.N[.N]].
func parseVersion(text string) (v [3]int, err error) {
	parts := strings.Split(text, ".")
	if len(parts) > len(v) {
		return v, fmt.Errorf("%.80q is no version such as 1.4.0", text)
	}
	for i, part := range parts {
		if v[i], err = strconv.Atoi(part); err != nil || v[i] < 0 {
			return v, fmt.Errorf("%.80q is no version such as 1.4.0", text)
		}
	}
	return v, nil
}

// Custom returns the custom part of the target at Path(r.Transport), without what the path
// says: each client verifies this of each module.
func (r Release) Custom() (*json.RawMessage, error) {
	r.Transport = ""
	text, err := json.Marshal(r)
	return (*json.RawMessage)(&text), err
}
