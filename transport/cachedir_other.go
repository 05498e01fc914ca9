//go:build !unix

package transport

import "os"

// privateDir makes sure that dir exists. Its permissions are not checked here:
// they are the system's default for a directory in the user's own profile.
func privateDir(dir string) error { return os.MkdirAll(dir, 0o700) }
