package main

import "testing"

func TestShape(t *testing.T) {
	for _, c := range []struct {
		name, a, b string
		same       bool
	}{
		{"another time, process and address", "Nov 21 14:30:01 lab chargegated[571]: P1-03 has 10.83.0.17", "Nov  1 04:00:59 lab chargegated[9]: P1-03 has 10.83.0.4", true},
		{"another unit", "ready after 300.3ms", "ready after 1.2s", true},
		{"another event", "lab chargegated[571]: P1-03 has 10.83.0.17", "lab chargegated[571]: P1-03 asks 10.83.0.17", false},
	} {
		if same := shape(c.a) == shape(c.b); same != c.same {
			t.Errorf("%s: same shape %v, want %v: %q, %q", c.name, same, c.same, shape(c.a), shape(c.b))
		}
	}
}

func TestCompareSaysWhichSideLacksWhat(t *testing.T) {
	gone, added := compare("a 1\nb\n", "a 2\nc\n")
	if len(gone) != 1 || gone[0] != "b" || len(added) != 1 || added[0] != "c" {
		t.Errorf("gone %q, added %q", gone, added)
	}
}

func TestBlockIsFoundByItsMark(t *testing.T) {
	got, err := block("x\n<!-- screen: story -->\n```\n$ one\ntwo\n```\ny\n", "story")
	if err != nil || got != "$ one\ntwo\n" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := block("nothing", "story"); err == nil {
		t.Error("a page without the mark: no error")
	}
}

func TestOnlyWhatAnsweredIsOpen(t *testing.T) {
	const out = "Host: 10.83.16.1 ()\tPorts: 22/closed/tcp//ssh///, 53/open/tcp//domain///, 67/open|filtered/udp//dhcps///, 53/open/udp//domain///\n"
	got := openPorts(out)
	if len(got) != 2 || got[0] != "53/tcp" || got[1] != "53/udp" {
		t.Errorf("open: %v", got)
	}
}

func TestEveryScenarioCanBeRun(t *testing.T) {
	leaves, names := map[string]bool{"power": true}, map[string]bool{}
	for _, s := range scenarios() {
		if names[s.Name] || s.What == "" || s.Limit == 0 || s.Run == nil {
			t.Errorf("%q is there twice, or lacks something", s.Name)
		}
		names[s.Name] = true
		if s.Leaves != "" {
			leaves[s.Leaves] = true
		}
	}
	for _, s := range scenarios() {
		if !leaves[s.From] {
			t.Errorf("%s begins with %q, which nobody leaves", s.Name, s.From)
		}
	}
}
