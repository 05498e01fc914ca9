package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"waterproxy/bench/internal/holder"
)

// holding is a process that holds one side of many connections.
type holding struct {
	*process
	answers chan string // closed when there will be no more
	address string      // on which it listens, if it does
}

// launchHolder starts a helper as a holder and waits until it is ready.
func launchHolder(ctx context.Context, executable string, q holder.Request, timeout time.Duration, echo io.Writer) (*holding, error) {
	argument, err := json.Marshal(q)
	if err != nil {
		return nil, err
	}
	p, err := spawn([]string{executable, holder.Command, string(argument)}, os.Environ(), true, echo)
	if err != nil {
		return nil, err
	}
	h := &holding{process: p, answers: make(chan string, 1)}
	go func() {
		defer p.drained()
		defer close(h.answers)
		for lines := bufio.NewScanner(p.stdout); lines.Scan(); {
			h.answers <- lines.Text()
		}
	}()
	if h.address, err = h.answer(ctx, timeout); err != nil {
		return nil, errors.Join(err, h.end())
	}
	return h, nil
}

// answer waits for what follows "ok" in the answer to an order.
func (h *holding) answer(ctx context.Context, limit time.Duration) (string, error) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case line, ok := <-h.answers:
		if !ok {
			select {
			case <-h.exited: // all that it wrote is there
			case <-timer.C:
			}
			return "", errors.New("it ended without an answer" + h.stderr.quoted())
		}
		verdict, text, _ := strings.Cut(line, " ")
		switch verdict {
		case holder.OK:
			return text, nil
		case holder.Failed:
			return "", errors.New(text)
		}
		return "", fmt.Errorf("it answered %q", line)
	case <-timer.C:
		return "", fmt.Errorf("no answer within %v", limit)
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// ask gives an order and waits until it has been carried out.
func (h *holding) ask(ctx context.Context, order string, limit time.Duration) error {
	if _, err := io.WriteString(h.stdin, order+"\n"); err != nil {
		return err
	}
	_, err := h.answer(ctx, limit)
	return err
}

// askBoth gives an order to both sides, which carry it out together. It returns
// with the first failure, since the other side may then wait for ever.
func askBoth(ctx context.Context, dialer, listener *holding, order string, limit time.Duration) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	results := make(chan error, 2)
	for name, side := range map[string]*holding{"dialer": dialer, "listener": listener} {
		go func() {
			err := side.ask(ctx, order, limit)
			if err != nil {
				err = fmt.Errorf("%s, %s: %w", name, order, err)
			}
			results <- err
		}()
	}
	for range 2 {
		if err := <-results; err != nil {
			return err
		}
	}
	return nil
}

// end kills the process: it has nothing to put in order, and closing ten
// thousand connections takes its time.
func (h *holding) end() error { return h.kill() }
