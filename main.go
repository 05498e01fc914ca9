// Command waterproxy carries Tor connections through WebAssembly transport
// modules. Started by tor it is a managed proxy (pluggable transport
// specification version 1), client or server; started by hand it has
// subcommands. Which of the two it is, [command.Main] decides.
package main

import (
	"os"

	"waterproxy/internal/command"
)

func main() { os.Exit(command.Main(os.Args[1:])) }
