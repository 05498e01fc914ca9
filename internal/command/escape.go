//go:build escape && linux

package command

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/peterbourgon/ff/v3/ffcli"

	"waterproxy/internal/ptlog"
	"waterproxy/internal/service"
	"waterproxy/internal/walls"
)

// escapeCommand is `waterproxy server`, with code in it that tries what code that has left
// the sandbox would. It is in no program but that of a test.
func escapeCommand() *ffcli.Command {
	fs := newFlagSet("waterproxy escape")
	var s standalone
	var around string
	o := serverOptions{}
	fs.StringVar(&o.transport, "transport", "plain", "the transport's `NAME`")
	fs.StringVar(&o.listen, "listen", "127.0.0.1:0", "listen at `ADDRESS`")
	fs.StringVar(&o.forward, "forward", "", "pass on connections to `ADDRESS`")
	fs.StringVar(&around, "surroundings", "{}", "walls.Surroundings, as `JSON`")
	s.register(fs)
	return &ffcli.Command{
		Name:    "escape",
		FlagSet: fs,
		Exec: func(context.Context, []string) error {
			return s.run(func(ctx context.Context, on *service.Service) (service.Runner, error) {
				var to walls.Surroundings
				if err := json.Unmarshal([]byte(around), &to); err != nil {
					return nil, err
				}
				l, err := startServer(ctx, on, o)
				if err != nil {
					return nil, err
				}
				for _, a := range walls.Attempts(to) {
					err := a.Do()
					fmt.Fprintf(ptlog.Stdout(), "attempt\t%s\t%t\t%t\t%v\n", a.Name, a.Granted, err == nil, err)
				}
				on.EndNow("every attempt has been made")
				return l, nil
			})
		},
	}
}

func init() { forTests = append(forTests, escapeCommand) }
