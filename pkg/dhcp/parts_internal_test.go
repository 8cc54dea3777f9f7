package dhcp

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"chargegate/pkg/charger"
	"chargegate/pkg/event"
	"chargegate/pkg/lease"
)

func TestDatagramHasRightChecksums(t *testing.T) {
	t.Parallel()
	from, to := netip.MustParseAddrPort("10.83.0.1:67"), netip.MustParseAddrPort("255.255.255.255:68")
	got := datagram(from, to, []byte("abc"))
	// Header sums worked out by hand: RFC 1071 over the words.
	want := "4500001f00004000" + "4011" + "307b" + "0a530001" + "ffffffff" + "00430044000b" + "309b" + "616263"
	if hex.EncodeToString(got) != want {
		t.Errorf("got  %x\nwant %s", got, want)
	}
	for size := range 100 { // a receiver's sum over all of it comes out as zero
		b := datagram(from, to, bytes.Repeat([]byte{0xa7}, size))
		pseudo := uint32(protoUDP) + uint32(len(b)-ipHeader) + halves(from.Addr().As4()) + halves(to.Addr().As4())
		if sum(0, b[:ipHeader]) != 0 || sum(pseudo, b[ipHeader:]) != 0 {
			t.Errorf("%d bytes: a receiver would drop it", size)
		}
	}
}

func TestLevelsAreToldOnceAndRecoverBelowTheirThreshold(t *testing.T) {
	t.Parallel()
	log := event.New(event.Options{Level: event.Debug, Keep: 100})
	s := New(Config{Networks: []Network{{Name: "P1", Interface: "wlan0", Gateway: gateway}}}, aDesk(t).leases, charger.NewBook(nil, nil), log)
	var got []string
	for _, used := range []int{0, 79, 80, 79, 81, 96, 94, 97, 91, 89, 96, 76, 74, 95, 10} {
		before := len(log.Recent(0, ""))
		s.say(s.links[0], lease.Count{Network: "P1", Used: used, Size: 100})
		for _, r := range log.Recent(0, "")[before:] {
			got = append(got, fmt.Sprintf("%d %s", used, r.Kind.ID))
		}
	}
	want := []string{"80 dhcp-pool-filling", "96 dhcp-pool-nearly-full", "96 dhcp-pool-nearly-full", "74 dhcp-pool-recovered",
		"95 dhcp-pool-nearly-full", "10 dhcp-pool-recovered"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("said (-want +got):\n%s", diff)
	}
}

func TestStorageTroubleIsToldOnceAndItsEndToo(t *testing.T) {
	t.Parallel()
	log := event.New(event.Options{Keep: 100})
	var w diskWatch
	full := fmt.Errorf("%w: no space left on device", lease.ErrVolatile)
	w.seen(log, nil)
	w.failed(log, full)
	w.failed(log, full)
	w.seen(log, full)
	w.seen(log, nil)
	w.seen(log, nil)
	w.seen(log, errors.New("cannot shorten"))
	var got []string
	for _, r := range log.Recent(0, "") {
		got = append(got, r.Kind.ID)
	}
	if diff := cmp.Diff([]string{"dhcp-storage-failed", "dhcp-storage-recovered", "dhcp-storage-untidy"}, got); diff != "" {
		t.Errorf("said (-want +got):\n%s", diff)
	}
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	s := New(Config{Networks: []Network{{Name: "P1", Interface: "wlan0", Gateway: gateway}}}, aDesk(t).leases, charger.NewBook(nil, nil), nil)
	s.links[0].drop(malformed)
	s.links[0].count(1)
	s.links[0].count(77)
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(s)
	want := `
# HELP chargegate_dhcp_pool_addresses Addresses that may be given away.
# TYPE chargegate_dhcp_pool_addresses gauge
chargegate_dhcp_pool_addresses{network="P1",to="chargers"} 34
chargegate_dhcp_pool_addresses{network="P1",to="strangers"} 8
# HELP chargegate_dhcp_requests_total Messages from clients.
# TYPE chargegate_dhcp_requests_total counter
chargegate_dhcp_requests_total{network="P1",type="decline"} 0
chargegate_dhcp_requests_total{network="P1",type="discover"} 1
chargegate_dhcp_requests_total{network="P1",type="inform"} 0
chargegate_dhcp_requests_total{network="P1",type="release"} 0
chargegate_dhcp_requests_total{network="P1",type="request"} 0
chargegate_dhcp_requests_total{network="P1",type="unknown"} 1
`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want), "chargegate_dhcp_pool_addresses", "chargegate_dhcp_requests_total"); err != nil {
		t.Error(err)
	}
	if problems, err := testutil.GatherAndLint(registry); err != nil || len(problems) > 0 {
		t.Error(problems, err)
	}
}

func TestTheInventoryDecidesWhoIsKnown(t *testing.T) {
	t.Parallel()
	book := charger.NewBook(nil, nil)
	s := New(Config{Networks: []Network{{Name: "P1", Interface: "wlan0", Gateway: gateway}}}, aDesk(t).leases, book, nil)
	l := s.links[0]
	if known, listed := s.known(l, client); !known || listed {
		t.Errorf("without an inventory: known %v, listed %v", known, listed)
	}
	book.Replace(charger.Inventory{other: {MAC: other, Name: "P1-08"}})
	if known, _ := s.known(l, client); known {
		t.Error("a stranger is known")
	}
	if known, listed := s.known(l, other); !known || !listed {
		t.Errorf("a charger of the inventory: known %v, listed %v", known, listed)
	}
}

func TestASecondServerIsKeptFromAnInterface(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first, err := lock(dir, "wlan0")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lock(dir, "wlan0"); err == nil || !strings.Contains(err.Error(), "another chargegate") {
		t.Errorf("the second lock: %v", err)
	}
	if f, err := lock(dir, "wlan1"); err != nil {
		t.Errorf("another interface: %v", err)
	} else {
		f.Close()
	}
	first.Close()
	again, err := lock(dir, "wlan0")
	if err != nil {
		t.Fatalf("after the first has gone: %v", err)
	}
	again.Close()
}

func TestWhatWasFoundIsSaid(t *testing.T) {
	t.Parallel()
	log := event.New(event.Options{Keep: 10})
	SayFound(lease.Report{Bindings: 3, Outside: 1, Torn: 17, Faults: []lease.Fault{{File: "leases-00000001.journal", Err: errors.New("bad")}}}, log)
	var got []string
	for _, r := range log.Recent(0, "") {
		got = append(got, r.Message)
	}
	want := []string{
		"the file leases-00000001.journal is damaged: bad",
		"1 changes from before were forgotten: their addresses are in none of the networks any more",
		"3 addresses are known from before",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("said (-want +got):\n%s", diff)
	}
}
