package demo

import (
	"context"
	"fmt"

	"waterproxy/internal/meter"
)

// carried is how many bytes went through a module since its process started.
type carried struct{ toNetwork, fromNetwork uint64 }

// readCarried asks the process behind a Unix socket. A transport that is not there
// is an error: it does not mean zero.
func readCarried(ctx context.Context, socket, transport string) (carried, error) {
	rows, err := meter.Read(ctx, "unix:"+socket)
	if err != nil {
		return carried{}, err
	}
	for _, row := range rows {
		if row.Transport == transport {
			return carried{row.ToNetwork, row.FromNetwork}, nil
		}
	}
	return carried{}, fmt.Errorf("there are no figures of the transport %s", transport)
}
