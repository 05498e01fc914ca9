//go:build unix

package repository_test

import (
	"os"
	"testing"

	"waterproxy/internal/pttest"
)

func TestMain(m *testing.M) {
	if state := os.Getenv(childVariable); state != "" {
		os.Exit(child(state))
	}
	status := pttest.Run(m)
	os.RemoveAll(followed)
	os.Exit(status)
}
