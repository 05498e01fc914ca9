package guest

import (
	"errors"
	"fmt"
	"slices"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

// Role is one of the parts that a module can play for a connection.
type Role uint8

// The roles of the W.A.T.E.R. documents.
const (
	Client      Role = iota // the host knows the address to dial
	FixedClient             // the module knows the address to dial
	Server                  // the module gets an accepted connection
	Relay                   // the module joins an accepted and a dialed connection
	roles
)

var roleNames = [roles]string{"client", "fixed client", "server", "relay"}

func (r Role) String() string {
	if r < roles {
		return roleNames[r]
	}
	return fmt.Sprintf("role %d", uint8(r))
}

// hasCaller reports whether the role has a Go caller on one side.
func (r Role) hasCaller() bool { return r != Relay }

// function is the name and type of a module's export.
type function struct {
	name   string
	params int // all i32, as is the one result
}

// ABI is how one version of the WATM ABI is recognised and called. The
// functions are called in this order: start functions, init, one of roles,
// cancel (which hands over the control channel), worker; or init and one of many.
type ABI struct {
	Name    string
	markers []string // exports that tell the version, any of them
	implied []string // exports that tell it together where no marker does
	init    function
	roles   [roles]function // no name: not part of this version
	cancel  function
	worker  function
	many    [roles]function // one instance for many connections in a role

	workers function // how many background workers the module asks for
	work    function // runs one of them

	checkArgs function // checks a bridge line's arguments without a connection
	// selfTest lets a module test itself; see docs/abi.md.
	selfTest function
}

// singleMarker is exported by modules of which there must be no more than one
// instance for a transport. See docs/abi.md.
const singleMarker = "watm_single_instance_v1"

// posixMarker is exported by modules that cope with short writes and handle the
// end of each direction themselves. See docs/abi.md.
const posixMarker = "watm_posix_io_v1"

// threadStart is where a thread begins that the module has started (wasi-threads).
const threadStart = "wasi_thread_start"

// abis lists the versions, in the order in which they are looked for.
var abis = []*ABI{
	{
		Name: "v1",
		markers: []string{
			"watm_init_v1", "watm_start_v1", "watm_dial_v1", "watm_accept_v1", "watm_associate_v1", "watm_dial_fixed_v1",
			"watm_dial_many_v1", "watm_dial_fixed_many_v1", "watm_accept_many_v1",
		},
		init: function{"watm_init_v1", 0},
		roles: [roles]function{
			Client:      {"watm_dial_v1", 1},
			FixedClient: {"watm_dial_fixed_v1", 1},
			Server:      {"watm_accept_v1", 1},
			Relay:       {"watm_associate_v1", 0},
		},
		cancel: function{"watm_ctrlpipe_v1", 1},
		worker: function{"watm_start_v1", 0},
		many: [roles]function{
			Client:      {"watm_dial_many_v1", 1},
			FixedClient: {"watm_dial_fixed_many_v1", 1},
			Server:      {"watm_accept_many_v1", 1},
		},
		workers: function{"watm_background_workers_v1", 0},
		work:    function{"watm_background_worker_v1", 1},

		checkArgs: function{"watm_check_args_v1", 0},
		selfTest:  function{"watm_self_test_v1", 0},
	},
	{
		Name:    "v0",
		markers: []string{"_water_v0"},
		implied: []string{"_water_init", "_water_worker"},
		init:    function{"_water_init", 0},
		roles: [roles]function{
			Client: {"_water_dial", 1},
			Server: {"_water_accept", 1},
			Relay:  {"_water_associate", 0},
		},
		cancel: function{"_water_cancel_with", 1},
		worker: function{"_water_worker", 0},
	},
}

// Shape is what a compiled module offers, found before it runs.
type Shape struct {
	ABI *ABI
	// Roles are those in which an instance serves one connection, Many those in
	// which it serves many.
	Roles, Many []Role
	// Missing has the reason for each role that is in neither.
	Missing map[Role]string
	// Posix modules cope with short writes and half-closed connections.
	Posix bool
	// HostCrypto modules import the host's cryptography.
	HostCrypto bool
	// ChecksArgs modules can check a bridge line's arguments without a connection.
	ChecksArgs bool
	// SelfTests modules can test themselves without a connection.
	SelfTests bool
	// Single modules want no second instance beside them.
	Single bool
	// Spawns modules start threads themselves; Workers modules say how many
	// background workers they want.
	Spawns, Workers bool
}

// Threads reports whether an instance may have more than one thread.
func (s *Shape) Threads() bool { return s.Spawns || s.Workers }

// Has reports whether the role is offered, for one connection or for many.
func (s *Shape) Has(r Role) bool { return slices.Contains(s.Roles, r) || s.HasMany(r) }

// HasMany reports whether an instance can serve many connections in the role.
func (s *Shape) HasMany(r Role) bool { return slices.Contains(s.Many, r) }

// inspect finds out which ABI a module speaks and what it offers. The error
// is the reason why it can't run at all.
func inspect(m wazero.CompiledModule, shared bool) (*Shape, error) {
	fns := m.ExportedFunctions()
	abi := recognise(m, fns)
	if abi == nil {
		return nil, fmt.Errorf("it exports the functions of no known WATM ABI (v0: _water_init and _water_worker, v1: watm_*_v1)")
	}
	s := &Shape{ABI: abi, Missing: map[Role]string{}, Posix: fns[posixMarker] != nil, Single: fns[singleMarker] != nil}
	s.HostCrypto = slices.ContainsFunc(m.ImportedFunctions(), func(d api.FunctionDefinition) bool {
		from, _, _ := d.Import()
		return from == CryptoModule
	})
	for i, f := range abi.roles {
		r, why := Role(i), ""
		if f.name == "" {
			why = "the " + abi.Name + " ABI has no such role"
		} else if why = f.mismatch(fns); why == "" {
			s.Roles = append(s.Roles, r)
		}
		if many := abi.many[r]; many.name != "" && fns[many.name] != nil {
			if wrong := many.mismatch(fns); wrong != "" {
				return nil, errors.New(wrong)
			}
			s.Many = append(s.Many, r)
		}
		if !s.Has(r) {
			s.Missing[r] = why
		}
	}
	s.ChecksArgs = abi.checkArgs.name != "" && fns[abi.checkArgs.name] != nil
	s.SelfTests = abi.selfTest.name != "" && fns[abi.selfTest.name] != nil
	required := []function{abi.init}
	if s.SelfTests {
		required = append(required, abi.selfTest)
	}
	if s.ChecksArgs {
		required = append(required, abi.checkArgs)
	}
	if len(s.Roles) > 0 || len(s.Many) == 0 {
		required = append(required, abi.cancel, abi.worker)
	}
	for _, f := range required {
		if why := f.mismatch(fns); why != "" {
			return nil, fmt.Errorf("as a %s module %s", abi.Name, why)
		}
	}
	if err := s.findThreads(m, fns, shared); err != nil {
		return nil, err
	}
	return s, checkImports(m, shared)
}

// findThreads finds out whether and how the module uses threads.
func (s *Shape) findThreads(m wazero.CompiledModule, fns map[string]api.FunctionDefinition, shared bool) error {
	s.Spawns = slices.ContainsFunc(m.ImportedFunctions(), func(d api.FunctionDefinition) bool {
		module, _, _ := d.Import()
		return module == "wasi"
	})
	s.Workers = s.ABI.workers.name != "" && (fns[s.ABI.workers.name] != nil || fns[s.ABI.work.name] != nil)
	if s.Threads() && !shared {
		return errors.New("it wants threads (it imports wasi.thread-spawn or exports background workers), but has no shared memory")
	}
	if start := fns[threadStart]; s.Spawns && (start == nil ||
		!slices.Equal(start.ParamTypes(), types(i32, i32)) || len(start.ResultTypes()) > 0) {
		return fmt.Errorf("it imports wasi.thread-spawn, but exports no %s of type %s", threadStart, typeString(types(i32, i32), nil))
	}
	if s.Workers {
		for _, f := range []function{s.ABI.workers, s.ABI.work} {
			if why := f.mismatch(fns); why != "" {
				return errors.New(why)
			}
		}
	}
	return nil
}

func recognise(m wazero.CompiledModule, fns map[string]api.FunctionDefinition) *ABI {
	exported := func(name string) bool { return fns[name] != nil }
	for _, abi := range abis {
		if slices.ContainsFunc(abi.markers, exported) {
			return abi
		}
		all := len(abi.implied) > 0
		for _, name := range abi.implied {
			all = all && exported(name)
		}
		if all {
			return abi
		}
	}
	return nil
}

// mismatch returns what is wrong with the export, if anything.
func (f function) mismatch(fns map[string]api.FunctionDefinition) string {
	d := fns[f.name]
	if d == nil {
		return "it does not export " + f.name
	}
	want := slices.Repeat([]api.ValueType{api.ValueTypeI32}, f.params)
	if !slices.Equal(d.ParamTypes(), want) || !slices.Equal(d.ResultTypes(), []api.ValueType{api.ValueTypeI32}) {
		return fmt.Sprintf("its %s has the type %s, not %s",
			f.name, typeString(d.ParamTypes(), d.ResultTypes()), typeString(want, []api.ValueType{api.ValueTypeI32}))
	}
	return ""
}

func typeString(params, results []api.ValueType) string {
	names := func(ts []api.ValueType) (ns []string) {
		for _, t := range ts {
			ns = append(ns, api.ValueTypeName(t))
		}
		return ns
	}
	return fmt.Sprint(names(params), " -> ", names(results))
}
