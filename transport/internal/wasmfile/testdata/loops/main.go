// Command loops works through loops of many forms and prints what comes out. With
// an argument it spins for ever, in the loop of that name.
package main

import (
	"bytes"
	"compress/flate"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"math/rand"
	"os"
	"regexp"
	"slices"
	"sort"
	"strings"

	"golang.org/x/crypto/chacha20poly1305"
	"golang.org/x/crypto/curve25519"
	"golang.org/x/crypto/nacl/secretbox"
)

func main() {
	if len(os.Args) > 1 {
		spin(os.Args[1])
	}
	random := rand.New(rand.NewSource(1))
	data := make([]byte, 40_000)
	random.Read(data[:20_000])
	shapes(data)
	ciphers(data)
	packages(data)
	// Enough turns to go by way of a checkpoint many times, with the collector
	// and other goroutines at work.
	sums := make(chan uint64)
	for i := range 8 {
		go func() {
			var sum uint64
			for range 20 {
				garbage := bytes.Repeat(data, 2)
				sum += plainSum(garbage[i:])
			}
			sums <- sum
		}()
	}
	for range 8 {
		fmt.Println("sum", <-sums)
	}
}

//go:noinline
func spin(loop string) {
	x := uint32(1)
	switch loop {
	case "empty":
		for {
		}
	case "leaf":
		for i := uint32(0); ; i++ {
			x ^= i
			if x == 0 && i == 0 {
				fmt.Println("never")
			}
		}
	case "nested":
		for {
			for i := uint32(0); i < 10; i++ {
				x = x<<1 ^ i
			}
		}
	}
	panic(loop)
}

//go:noinline
func plainSum(b []byte) (sum uint64) {
	for i := 0; i < len(b); i++ {
		sum = sum*31 + uint64(b[i])
	}
	return sum
}

// shapes are loops with the jumps that Go allows.
func shapes(data []byte) {
	fmt.Println(labels(data), gotos(data), switches(data), deferred(data), matrix(17))
	fmt.Println(bounds(data))
	n := 0
	for i := range countTo(1000) {
		n += i
	}
	fmt.Println(n, strings.Count(fmt.Sprint(data[:100]), "1"))
}

//go:noinline
func labels(data []byte) (n int) {
outer:
	for i := 0; i < len(data); i++ {
		for j := i; j < len(data) && j < i+50; j++ {
			switch {
			case data[j] == 7:
				continue outer
			case data[j] == 9 && j > i+40:
				break outer
			case data[j]&1 == 0:
				continue
			}
			n += int(data[j])
		}
	}
	return n
}

//go:noinline
func gotos(data []byte) (n int) {
	i := 0
	if len(data) > 10 {
		i = 3
		goto middle
	}
top:
	n += i
middle:
	i++
	n ^= int(data[i])
	if n&3 == 1 {
		i++
	}
	if i < len(data)-2 {
		if data[i] > 100 {
			goto top
		}
		goto middle
	}
	return n
}

//go:noinline
func switches(data []byte) (n int) {
	state := 0
	for _, c := range data {
		switch state {
		case 0:
			state = int(c & 3)
		case 1:
			n += int(c)
			state = 2
		case 2:
			if c > 128 {
				state = 0
			} else {
				state = 3
			}
		default:
			n -= int(c) >> 1
			state = int(c>>6) & 1
		}
	}
	return n
}

//go:noinline
func bounds(data []byte) (n int, failed bool) {
	defer func() { failed = recover() != nil }()
	for i := 0; ; i += 3 {
		n += int(data[i])
	}
}

//go:noinline
func deferred(data []byte) (n int) {
	for i := range data[:300] {
		func() {
			defer func() { n += i }()
			if data[i] > 200 {
				return
			}
			n++
		}()
	}
	return n
}

//go:noinline
func matrix(size int) float64 {
	a, b, c := make([]float64, size*size), make([]float64, size*size), make([]float64, size*size)
	for i := range a {
		a[i], b[i] = float64(i), 1/float64(i+1)
	}
	for i := range size {
		for j := range size {
			for k := range size {
				c[i*size+j] += a[i*size+k] * b[k*size+j]
			}
		}
	}
	return c[size+1]
}

func countTo(n int) func(func(int) bool) {
	return func(yield func(int) bool) {
		for i := range n {
			if !yield(i) {
				return
			}
		}
	}
}

func ciphers(data []byte) {
	show := func(name string, b []byte) { fmt.Printf("%s %x\n", name, sha256.Sum256(b)) }
	var key, point [32]byte
	copy(key[:], data)
	var nonce [24]byte
	box := secretbox.Seal(nil, data, &nonce, &key)
	show("secretbox", box)
	opened, ok := secretbox.Open(nil, box, &nonce, &key)
	fmt.Println(ok, bytes.Equal(opened, data))
	aead, err := chacha20poly1305.New(key[:])
	check(err)
	show("chacha20", aead.Seal(nil, nonce[:12], data, nil))
	block, err := aes.NewCipher(key[:16])
	check(err)
	gcm, err := cipher.NewGCM(block)
	check(err)
	show("aes", gcm.Seal(nil, nonce[:12], data[:3000], nil))
	mac := hmac.New(sha512.New, key[:])
	mac.Write(data)
	show("hmac", mac.Sum(nil))
	public, err := curve25519.X25519(key[:], curve25519.Basepoint)
	check(err)
	copy(point[:], public)
	show("x25519", point[:])
}

func packages(data []byte) {
	var packed bytes.Buffer
	w, err := flate.NewWriter(&packed, 6)
	check(err)
	_, err = w.Write(data)
	check(err)
	check(w.Close())
	unpacked, err := io.ReadAll(flate.NewReader(bytes.NewReader(packed.Bytes())))
	check(err)
	fmt.Println(packed.Len(), bytes.Equal(unpacked, data))

	words := strings.Fields(base64.StdEncoding.EncodeToString(data[:3000]))
	text := strings.Repeat(words[0]+" ", 3)
	fmt.Println(len(regexp.MustCompile(`[a-c]+[0-9]|/\w`).FindAllString(text, -1)))
	numbers := make([]int, 5000)
	for i := range numbers {
		numbers[i] = int(data[i])<<8 | int(data[i+1])
	}
	sorted := slices.Clone(numbers)
	slices.Sort(sorted)
	sort.Sort(sort.Reverse(sort.IntSlice(numbers)))
	slices.Reverse(numbers)
	fmt.Println(slices.Equal(sorted, numbers))
	encoded, err := json.Marshal(map[string]any{"numbers": numbers[:500], "text": text})
	check(err)
	var decoded map[string]any
	check(json.Unmarshal(encoded, &decoded))
	fmt.Println(len(encoded), len(decoded["numbers"].([]any)))
	f := new(big.Int).MulRange(1, 400)
	fmt.Println(f.Mod(f, big.NewInt(1_000_003)), new(big.Int).Sqrt(new(big.Int).MulRange(1, 100)))
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
