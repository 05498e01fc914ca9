//go:build !unix

package statedir

import "io/fs"

// CheckPrivate accepts every directory: its permissions are the system's default for one
// in the user's own profile.
func CheckPrivate(string) error { return nil }

func checkOwn(string, fs.FileInfo) error { return nil }

// CheckWritable accepts every directory: there is no answer short of trying.
func CheckWritable(string) error { return nil }

const openFlags = 0

func syncDir(string) error { return nil }
