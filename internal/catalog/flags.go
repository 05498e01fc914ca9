package catalog

import "flag"

// Flags adds the flags that fill a Catalog.
func (c *Catalog) Flags(fs *flag.FlagSet) {
	fs.StringVar(&c.Dir, "modules", "", "offer what is in `DIR`: NAME.wasm, with NAME.toml for its settings")
	fs.Func("module", "run the transport NAME with the module in FILE, as `NAME=FILE`; repeatable", c.AddModule)
	fs.Func("module-config", "give NAME's module the configuration in FILE, as `NAME=FILE`; repeatable", c.AddConfig)
	fs.Func("module-allow", "let NAME's module dial addresses by itself, as `NAME=[NETWORK/]HOST:PORT`; repeatable", c.AddAllow)
	fs.Func("module-instances", "share N instances of NAME's module among its connections, as `NAME=N`, or give each its own, as NAME=each; repeatable", c.AddInstances)
	fs.Func("module-state", "give the module of the transport `NAME` a directory of its own in the state directory; repeatable", c.AddState)
}
