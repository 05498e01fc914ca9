//go:build !race

package program

var partEnvironment = []string{}
