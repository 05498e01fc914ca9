//go:build !linux

package measure

import "time"

func usageOf(int) (Usage, error) { return Usage{}, ErrUnsupported }

func cpuOf(int) (time.Duration, error) { return 0, ErrUnsupported }
