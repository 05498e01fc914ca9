package guest

import "testing"

func TestDescriptors(t *testing.T) {
	table := descriptors{limit: 4}
	ds := make([]*descriptor, 5)
	for i := range ds {
		ds[i] = &descriptor{}
	}
	for i := range 4 {
		if fd, ok := table.insert(ds[i]); !ok || int(fd) != i {
			t.Fatalf("insert %d: %d, %v", i, fd, ok)
		}
	}
	if _, ok := table.insert(ds[4]); ok {
		t.Error("the limit does not hold")
	}
	if table.remove(1) != ds[1] || table.remove(1) != nil || table.remove(99) != nil {
		t.Error("remove returns the wrong descriptor")
	}
	if table.get(1) != nil || table.get(1<<31) != nil || table.get(2) != ds[2] {
		t.Error("get returns the wrong descriptor")
	}
	if fd, ok := table.insert(ds[4]); !ok || fd != 1 {
		t.Errorf("the lowest free number is 1, not %d, %v", fd, ok)
	}
	if old, ok := table.renumber(3, 0); !ok || old != ds[0] || table.get(0) != ds[3] || table.get(3) != nil {
		t.Errorf("renumber: %v, %v", old, ok)
	}
	if old, ok := table.renumber(2, 2); !ok || old != nil || table.get(2) != ds[2] {
		t.Error("renumber to itself")
	}
	if _, ok := table.renumber(3, 0); ok {
		t.Error("renumber of a number that is not in use")
	}
	if n := len(table.all()); n != 3 {
		t.Errorf("%d descriptors, not 3", n)
	}
}
