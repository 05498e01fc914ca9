package command

import (
	"context"
	"crypto/sha256"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/peterbourgon/ff/v3/ffcli"

	"waterproxy/internal/program"
	"waterproxy/modules"
)

func versionCommand() *ffcli.Command {
	return &ffcli.Command{
		Name:       "version",
		ShortUsage: "waterproxy version",
		ShortHelp:  "print the versions of the program and of its built-in transports",
		Exec:       func(context.Context, []string) error { return printVersion() },
	}
}

func printVersion() error {
	fmt.Printf("waterproxy %s (%s, %s/%s)\n", program.Version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, dep := range info.Deps {
			switch dep.Path {
			case "github.com/tetratelabs/wazero", "gitlab.torproject.org/tpo/anti-censorship/pluggable-transports/goptlib":
				fmt.Printf("  %s %s\n", dep.Path, dep.Version)
			}
		}
	}
	for _, name := range modules.Names() {
		wasm, err := modules.Load(name)
		if err != nil {
			return err
		}
		fmt.Printf("  transport %s, %d bytes, SHA-256 %x\n", name, len(wasm), sha256.Sum256(wasm))
	}
	return nil
}
