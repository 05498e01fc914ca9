package publish

import (
	"errors"
	"os"
	"path/filepath"

	"waterproxy/internal/userfile"
)

func readFile(file string, limit int64) ([]byte, error) { return userfile.Read(file, limit) }

// writeFile puts a file in the place of what has the name, for a web server to read: at
// any moment the name stands for the old content or for all of the new one.
func writeFile(file string, data []byte) (err error) {
	dir := filepath.Dir(file)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".new-*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
