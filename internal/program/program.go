// Package program identifies the executable: its version and its exit statuses.
package program

// Version is that of the next or present release; see CHANGELOG.md.
const Version = "0.1.0"

// Exit statuses of the process, besides 0.
const (
	ExitFailure     = 1
	ExitUsage       = 2
	ExitInterrupted = 130 // as shells report it
)
