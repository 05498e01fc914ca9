package managed

import (
	"context"
	"io"
	"os"
	"time"
)

// parentCheck is how often to look whether the parent still lives. Where tor announces
// it, standard input tells at once.
const parentCheck = 2 * time.Second

// watchTor ends the process when tor closes standard input, if it has announced that,
// and when tor dies (pt-spec 3.2.1, 3.4).
func (p *plugin) watchTor() {
	if os.Getenv("TOR_PT_EXIT_ON_STDIN_CLOSE") == "1" {
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin) // an error means as much as the end
			p.EndNow("standard input was closed")
		}()
	}
	go watchParent(p.Ended(), func() { p.EndNow("the parent process is gone") })
}

// watchParent calls gone once the process that started this one has ended, on
// systems where the number of the parent then changes.
func watchParent(ctx context.Context, gone func()) {
	parent := os.Getppid()
	ticker := time.NewTicker(parentCheck)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			if os.Getppid() != parent {
				gone()
				return
			}
		case <-ctx.Done():
			return
		}
	}
}
