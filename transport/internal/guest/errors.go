package guest

import (
	"fmt"
	"strings"
)

// RoleError means that a module lacks the role it was asked for. Package transport has
// its own for users.
type RoleError struct {
	Role   Role
	Reason string
}

func (e *RoleError) Error() string {
	return fmt.Sprintf("the module cannot be a %v: %s", e.Role, e.Reason)
}

// TrapError means that a module's code failed.
type TrapError struct {
	Where string // the export that was running
	Said  string // what the module printed about it, as the end of a message
	Err   error  // wazero's description, with the module's stack
}

// Error gives the first line of the description; the stack is in Err.
func (e *TrapError) Error() string {
	first, _, _ := strings.Cut(e.Err.Error(), "\n")
	return fmt.Sprintf("the module failed in %s: %s%s", e.Where, first, e.Said)
}

func (e *TrapError) Unwrap() error { return e.Err }

// ResultError means that an export returned an error number.
type ResultError struct {
	Where  string
	Result int32  // the negative of a WASI error number
	Reason string // the module's own words; may be empty
}

func (e *ResultError) Error() string {
	if e.Reason != "" {
		return "the module says: " + e.Reason
	}
	return fmt.Sprintf("the module's %s returned %d (WASI error %d)", e.Where, e.Result, -e.Result)
}

// FailError is a module's report that it cannot set up or carry a connection.
type FailError struct {
	Errno  int32  // a WASI error number; 0 if the module gave none
	Reason string // the module's own words; may be empty
}

func (e *FailError) Error() string {
	if e.Reason != "" {
		return "the module says: " + e.Reason
	}
	return fmt.Sprintf("the module gave the connection up (WASI error %d)", e.Errno)
}

// BrokenError means that a module broke the rules of its ABI.
type BrokenError struct {
	Where string
	What  string
}

func (e *BrokenError) Error() string { return fmt.Sprintf("the module's %s %s", e.Where, e.What) }

// LimitError means that a module needed more of something than it may have.
type LimitError struct {
	What  string
	Limit int
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("the module reached its limit of %d %s", e.Limit, e.What)
}
