// Package program identifies the executable: its version and its exit statuses.
package program

import (
	"os"
	"runtime"
	"slices"
)

// Version is that of the next or present release; see CHANGELOG.md.
const Version = "0.1.0"

// CompileModule is the first argument of a process that compiles a module; see
// transport.RunCompiler.
const CompileModule = "compile-module"

// LookAtRepository is the first argument of a process that looks at a repository of
// modules; see updater.Main.
const LookAtRepository = "look-at-repository"

// Compiler is the command that starts such a process of this executable, once Main has
// set it: in a process that is not the program, as that of a test, it is empty.
var Compiler []string

// Updater is the same for a process that looks at a repository.
var Updater []string

// Own returns what Compiler or Updater is in the program, by its first argument; empty
// where that is not to be found.
func Own(first string) []string {
	exe := "/proc/self/exe" // also when the file has been replaced
	if runtime.GOOS != "linux" {
		var err error
		if exe, err = os.Executable(); err != nil {
			return nil
		}
	}
	return []string{exe, first}
}

// PartEnvironment returns the environment of such a process, which is not nil: nothing of
// this process's is in it.
func PartEnvironment() []string { return slices.Clone(partEnvironment) }

// Exit statuses of the process, besides 0.
const (
	ExitFailure     = 1
	ExitUsage       = 2
	ExitInterrupted = 130 // as shells report it
)
