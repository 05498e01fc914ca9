// Package tornet runs a private Tor network on loopback, so that a pluggable
// transport can be used the way it is meant to be used: launched by a real
// tor, at both ends, with real circuits inside it.
//
// A [Core] is a directory authority and an exit relay. Against one core any
// number of bridges and clients can be started, each in a few seconds:
//
//	core, err := tornet.StartCore(ctx, dir, tornet.CoreOptions{})
//	if err != nil {
//		return err
//	}
//	defer core.Close()
//	bridge, err := core.StartBridge(ctx, tornet.BridgeOptions{
//		Plugins: []tornet.Plugin{{Transports: []string{"obfs4"}, Exec: []string{"/usr/bin/obfs4proxy"}}},
//	})
//	...
//	client, err := core.StartClient(ctx, tornet.ClientOptions{
//		Plugins:     []tornet.Plugin{{Transports: []string{"obfs4"}, Exec: []string{"/usr/bin/obfs4proxy"}}},
//		BridgeLines: bridge.Lines(),
//	})
//	...
//	err = web.Download(ctx, client.HTTP(), nil)
//
// A context given to a Start function governs the start only. What was started
// lives until its Close, which waits until every process is gone, those that
// tor launched included. Should the calling process die without a Close, the
// kernel (on Linux) and tor's own __OwningControllerProcess end the rest.
//
// Nothing outside the directory given to [StartCore] is written, and nothing
// but loopback addresses is listened on or dialed.
package tornet
