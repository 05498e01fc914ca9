package watm

import "testing"

func TestArgs(t *testing.T) {
	args := Args{"a": {"1", "2"}, "b": {"x;y"}, "same": {"3", "3"}}
	if v, ok := args.Get("a"); v != "1" || !ok {
		t.Errorf("a is %q, %v", v, ok)
	}
	if v, ok := args.Get("c"); v != "" || ok {
		t.Errorf("c is %q, %v", v, ok)
	}
	if got, want := args.String(), `a=1;a=2;b=x\;y;same=3;same=3`; got != want {
		t.Errorf("they are written %s, want %s", got, want)
	}
	if err := args.CheckOnce("b", "same", "c"); err != nil {
		t.Error(err)
	}
	if err := args.CheckOnce("b", "a"); err == nil {
		t.Error("an argument with two values passes")
	}
}
