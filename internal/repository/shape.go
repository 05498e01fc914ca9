package repository

import "fmt"

// Bounds of what go-tuf is given to read, besides its size.
const (
	// maxDepth is how deeply metadata nests. TUF's own has 6 levels, what others may add
	// a few more.
	maxDepth = 32
	// maxSignatures are those of one file.
	maxSignatures = 1000
)

// guard turns a panic about malformed metadata, such as null where a key belongs, into an
// error.
func guard[T any](f func() (T, error)) (v T, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("it is malformed: %v", r)
		}
	}()
	return f()
}

// checkShape returns an error for text that is too deep for the parsers, which recurse, or
// has more signatures than they can compare with each other in good time: the elements of
// arrays in the outermost object. It leaves all else to the parsers.
func checkShape(text []byte) error {
	depth, quoted, elements := 0, false, 0
	var opened [maxDepth + 1]byte // by depth
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			if depth++; depth > maxDepth {
				return fmt.Errorf("it is malformed: it nests deeper than %d levels", maxDepth)
			}
			opened[depth] = c
		case c == '}' || c == ']':
			depth = max(depth-1, 0)
		case c == ',' && depth == 2 && opened[depth] == '[':
			if elements++; elements >= maxSignatures {
				return fmt.Errorf("it is malformed: it has more than %d signatures", maxSignatures)
			}
		}
	}
	return nil
}
