package catalog

import (
	"flag"
	"fmt"
	"strings"
)

// Flags adds the flags that fill a Catalog. A value that names a transport, and is wrong,
// is an error of that transport, and of CheckFlags.
func (c *Catalog) Flags(fs *flag.FlagSet) {
	of := func(key, usage string, add func(string) error) {
		fs.Func(key, usage, func(arg string) error {
			err := add(arg)
			name, _, ok := strings.Cut(arg, "=")
			if err == nil || name == "" || !ok && key != "module-state" {
				return err
			}
			if c.misused == nil {
				c.misused = map[string][]error{}
			}
			c.misused[name] = append(c.misused[name], fmt.Errorf("-%s %s: %w", key, arg, err))
			return nil
		})
	}
	fs.StringVar(&c.Dir, "modules", "", "offer what is in `DIR`: NAME.wasm, with NAME.toml for its settings")
	fs.BoolVar(&c.NoHostCrypto, "no-host-crypto", false, "run no module that uses this program's cryptography")
	of("module", "run the transport NAME with the module in FILE, as `NAME=FILE`; repeatable", c.AddModule)
	of("module-config", "give NAME's module the configuration in FILE, as `NAME=FILE`; repeatable", c.AddConfig)
	of("module-allow", "let NAME's module dial addresses by itself, as `NAME=[NETWORK/]HOST:PORT`; repeatable", c.AddAllow)
	of("module-instances", "share N instances of NAME's module among its connections, as `NAME=N`, or give each its own, as NAME=each; repeatable", c.AddInstances)
	of("module-state", "give the module of the transport `NAME` a directory of its own in the state directory; repeatable", c.AddState)
}
