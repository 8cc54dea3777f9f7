package revive

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"slices"
	"strings"
	"time"
)

// A limit is how often something may be done within a time.
type limit struct {
	most   int
	within time.Duration
}

// day is the longest time that a limit speaks of. What is older is only counted.
const day = 24 * time.Hour

// limitsOf are a step's limits: of the restarts and the driver for each radio, of
// the reboots for the whole box.
func limitsOf(s Step) []limit {
	switch s {
	case Restart:
		return []limit{{6, time.Hour}, {24, day}}
	case Driver:
		return []limit{{2, time.Hour}, {8, day}}
	case Reboot:
		return []limit{{1, time.Hour}, {3, day}}
	}
	return nil
}

// inVain is after how many reboots in a row that did not bring a radio back there
// are no more for it, until it has been back by other means: an adapter that was
// pulled out must not cost the others of the box three outages a day for ever.
const inVain = 3

// A deed is a step that was taken. at is on the clock that counts since this boot;
// what was done before the boot is below zero, and no older than it surely is.
type deed struct {
	network string
	step    Step
	at      time.Duration
}

// Counts are how often each step was taken for a radio, ever.
type Counts struct {
	Restarts int `json:"restarts"`
	Drivers  int `json:"drivers"`
	Reboots  int `json:"reboots"`
}

func (c *Counts) add(s Step) {
	switch s {
	case Restart:
		c.Restarts++
	case Driver:
		c.Drivers++
	case Reboot:
		c.Reboots++
	}
}

// of is how often one step was taken.
func (c Counts) of(s Step) int {
	switch s {
	case Restart:
		return c.Restarts
	case Driver:
		return c.Drivers
	case Reboot:
		return c.Reboots
	}
	return 0
}

// A record is what was done, as far as limits and people need it. It is pure: the
// time comes from whoever calls. Time is counted while the box runs and in no other
// way, so that neither a clock that is not set (F-12) nor a power cut makes anything
// older than it is: an hour of the limits is an hour of service.
type record struct {
	deeds  []deed
	counts map[string]Counts
	vain   map[string]int    // reboots in a row that have not brought the network's radio back
	where  map[string]device // where each radio was last found
	signs  map[string]string // why the box was restarted for a radio, until the next boot has told it
	before bool              // it is of a boot before this one
}

func newRecord() *record {
	return &record{counts: map[string]Counts{}, vain: map[string]int{}, where: map[string]device{}, signs: map[string]string{}}
}

// clone is a copy that shares nothing.
func (r *record) clone() *record {
	return &record{slices.Clone(r.deeds), maps.Clone(r.counts), maps.Clone(r.vain), maps.Clone(r.where), maps.Clone(r.signs), r.before}
}

// worst is the record to go on with when nobody knows what was done: no reboot for
// a day of service.
func worst(now time.Duration) *record {
	r := newRecord()
	for range limitsOf(Reboot)[1].most {
		r.deeds = append(r.deeds, deed{step: Reboot, at: now})
	}
	return r
}

// may says whether a step is within its limits, and if not why, in words.
func (r *record) may(network string, s Step, now time.Duration) (bool, string) {
	if s == Reboot && r.vain[network] >= inVain {
		return false, fmt.Sprintf("%d reboots in a row have not brought it back", inVain)
	}
	for _, l := range limitsOf(s) {
		var within []time.Duration
		for _, d := range r.deeds {
			if d.step == s && (s == Reboot || d.network == network) && now-d.at < l.within {
				within = append(within, d.at)
			}
		}
		if len(within) < l.most {
			continue
		}
		slices.Sort(within)
		next := within[len(within)-l.most] + l.within - now
		return false, fmt.Sprintf("of %q there are at most %d in %s; the next may come in %s", s, l.most, spoken(l.within), spoken(max(next, time.Second)))
	}
	return true, ""
}

// add notes a step that is about to be taken.
func (r *record) add(network string, s Step, now time.Duration) {
	r.deeds = append(r.forget(now), deed{network, s, now})
	c := r.counts[network]
	c.add(s)
	r.counts[network] = c
	if s == Reboot {
		r.vain[network]++
	}
}

// forget drops what no limit speaks of any more.
func (r *record) forget(now time.Duration) []deed {
	r.deeds = slices.DeleteFunc(r.deeds, func(d deed) bool { return now-d.at >= day })
	return r.deeds
}

// The file is text, so that it can be read without this program:
//
//	chargegate-revive 1 0123abcd
//	{"boot":"73b733bb-…","uptime":4210.5,"deeds":[{"network":"P1","step":"restart","at":4210.5}],…}
//
// The first line holds a checksum over the second. uptime is how long the box had
// run when it was written, and at how long when the step was taken; of an earlier
// boot both are counted on from there.
const (
	fileMagic   = "chargegate-revive"
	fileVersion = 1
	maxFile     = 256 << 10
	maxDeeds    = 4096
)

type fileDeed struct {
	Network string  `json:"network,omitempty"`
	Step    string  `json:"step"`
	At      float64 `json:"at"`
}

type fileBody struct {
	Boot   string            `json:"boot"`
	Uptime float64           `json:"uptime"`
	Deeds  []fileDeed        `json:"deeds"`
	Counts map[string]Counts `json:"counts,omitempty"`
	Vain   map[string]int    `json:"in_vain,omitempty"`
	Where  map[string]device `json:"where,omitempty"`
	Signs  map[string]string `json:"signs,omitempty"`
}

// encode writes the record down, as it is at now in the boot that is called so.
func (r *record) encode(boot string, now time.Duration) []byte {
	b := fileBody{Boot: boot, Uptime: now.Seconds(), Deeds: []fileDeed{}, Counts: r.counts, Vain: r.vain, Where: r.where, Signs: r.signs}
	for _, d := range r.forget(now) {
		b.Deeds = append(b.Deeds, fileDeed{d.network, d.step.String(), d.at.Seconds()})
	}
	body, err := json.Marshal(b)
	if err != nil { // strings and finite numbers always can be
		body = []byte("{}")
	}
	return sealed(append(body, '\n'))
}

// sealed puts the first line before the rest of a file.
func sealed(body []byte) []byte {
	return append(fmt.Appendf(nil, "%s %d %08x\n", fileMagic, fileVersion, checksum(body)), body...)
}

func checksum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

// decode reads what encode wrote, at now in the boot that is called so. Where the
// boot cannot be told (boot is empty), or the times contradict each other, everything
// counts as done just now.
func decode(data []byte, boot string, now time.Duration) (*record, error) {
	if len(data) > maxFile {
		return nil, fmt.Errorf("it is larger than %d KiB", maxFile>>10)
	}
	first, body, _ := strings.Cut(string(data), "\n")
	var version int
	var sum uint32
	if n, _ := fmt.Sscanf(first, fileMagic+" %d %x", &version, &sum); n < 1 {
		return nil, errors.New("it holds no record")
	} else if version != fileVersion {
		return nil, fmt.Errorf("its version is %d, and %d can be read", version, fileVersion)
	} else if n < 2 || sum != checksum([]byte(body)) {
		return nil, errors.New("its checksum is wrong")
	}
	var b fileBody
	if err := json.Unmarshal([]byte(body), &b); err != nil {
		return nil, fmt.Errorf("its second line cannot be read: %w", err)
	}
	if len(b.Deeds) > maxDeeds {
		return nil, errors.New("it holds too much")
	}
	written := seconds(b.Uptime)
	r := newRecord()
	for _, f := range b.Deeds {
		step, err := ParseStep(f.Step)
		if err != nil || step == No {
			return nil, fmt.Errorf("it holds %q as something that was done", f.Step)
		}
		at := seconds(f.At)
		switch {
		case boot == "" || b.Boot == "" || at > written || b.Boot == boot && written > now:
			at = now
		case b.Boot != boot:
			at -= written // it ran so long since then, for sure; and now more since this boot
		}
		r.deeds = append(r.deeds, deed{f.Network, step, at})
	}
	maps.Copy(r.counts, b.Counts)
	maps.Copy(r.vain, b.Vain)
	maps.Copy(r.where, b.Where)
	maps.Copy(r.signs, b.Signs)
	r.before = boot == "" || b.Boot != boot
	r.forget(now)
	return r, nil
}

// seconds reads a time of the file. What is beyond a century is none.
func seconds(s float64) time.Duration {
	const century = 100 * 365 * 24 * 3600
	if !(s > -century && s < century) {
		return 0
	}
	return time.Duration(s * float64(time.Second))
}
