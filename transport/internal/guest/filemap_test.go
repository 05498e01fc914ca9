package guest

import (
	"testing"
	"testing/fstest"
)

func TestFileMap(t *testing.T) {
	m := fileMap{
		"conf/watm.cfg": {[]byte("configuration"), 0o400},
		"watm/args":     {nil, 0o600},
		"watm/role":     {[]byte("client"), 0o600},
		"watmx":         {[]byte("x"), 0o600},
	}
	if err := fstest.TestFS(m, "conf/watm.cfg", "watm/args", "watm/role", "watmx"); err != nil {
		t.Error(err)
	}
	if err := fstest.TestFS(fileMap{}); err != nil {
		t.Error(err)
	}
}
