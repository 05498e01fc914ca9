package watm

// idleWorkers are goroutines without work. A new goroutine begins with a small stack,
// which a handshake makes grow, and copies, several times.
var idleWorkers = make(chan chan func(), mostIdleWorkers)

const mostIdleWorkers = 32

// spawn runs f in a goroutine.
func spawn(f func()) {
	select {
	case w := <-idleWorkers:
		w <- f
	default:
		go work(f)
	}
}

// work runs f, and then what else there is to run.
func work(f func()) {
	more := make(chan func(), 1)
	for {
		f()
		select {
		case idleWorkers <- more:
		default:
			return // there are enough
		}
		f = <-more
	}
}
