package web

import (
	"os"
	"testing"

	"waterproxy/internal/pttest"
)

func TestMain(m *testing.M) { os.Exit(pttest.Run(m)) }
