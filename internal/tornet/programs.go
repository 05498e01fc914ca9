package tornet

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// packages names the Debian package of each program that the network or a test
// of it may need. tor-gencert comes with tor.
var packages = map[string]string{
	"tor":         "tor",
	"tor-gencert": "tor",
	"obfs4proxy":  "obfs4proxy",
	"ss-local":    "shadowsocks-libev",
	"ss-server":   "shadowsocks-libev",
	"nginx":       "nginx-light",
	"caddy":       "caddy",
	"chromium":    "chromium",
}

// MissingProgramError names a program that is not installed, and how to get it.
type MissingProgramError struct {
	// Program is the name that was looked for.
	Program string
	// Package is the Debian package that holds it, empty if unknown.
	Package string
}

func (e *MissingProgramError) Error() string {
	if e.Package == "" {
		return fmt.Sprintf("the program %q is not installed", e.Program)
	}
	return fmt.Sprintf("the program %q is not installed: it comes with the Debian package %q (apt install %s)",
		e.Program, e.Package, e.Package)
}

// LookUp finds a program on PATH or in the folders where Debian keeps it; an
// error is a [*MissingProgramError].
func LookUp(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		// A relative answer (PATH may hold ".") would mean another file
		// after a change of directory.
		return filepath.Abs(path)
	}
	// A user's PATH often lacks the sbin folders, where tor may be.
	for _, folder := range []string{"/usr/sbin", "/usr/local/sbin", "/usr/bin", "/usr/local/bin"} {
		path := filepath.Join(folder, name)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", &MissingProgramError{Program: name, Package: packages[name]}
}

// Programs are the programs a [Core] is made of.
type Programs struct {
	// Tor is the path of tor.
	Tor string
	// Gencert is the path of tor-gencert, which makes the authority's keys.
	Gencert string
}

// FindPrograms finds the programs that a network needs; an error is a
// [*MissingProgramError].
func FindPrograms() (Programs, error) {
	tor, err := LookUp("tor")
	if err != nil {
		return Programs{}, err
	}
	gencert, err := LookUp("tor-gencert")
	if err != nil {
		return Programs{}, err
	}
	return Programs{Tor: tor, Gencert: gencert}, nil
}
