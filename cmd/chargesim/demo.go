package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	"chargegate/pkg/sim"
)

// rogue is the charger that misbehaves once it is online.
const rogue = "P1-rogue"

// A demonstration is one run of `chargesim demo`.
type demonstration struct {
	garage *sim.Garage
	rogue  *sim.Charger
	screen screen
	until  time.Time // when it is over, if all goes well
}

// bootTime is the most that a garage may take to come online.
const bootTime = 30 * time.Second

// demo shows a garage coming back after a power cut, and a charger that
// misbehaves. It fails unless every well-behaved charger is online in its own
// view and in the daemon's, and the other one got nowhere.
func demo(ctx context.Context, args []string) error {
	f := flag.NewFlagSet("demo", flag.ContinueOnError)
	bin := f.String("bin", "bin", "the `directory` of chargegated and chargegate")
	chargers := f.Int("chargers", number("DEMO_CHARGERS", 12), "how many chargers (DEMO_CHARGERS)")
	seconds := f.Int("seconds", number("DEMO_SECONDS", 30), "how long it takes (DEMO_SECONDS)")
	if err := f.Parse(args); err != nil {
		return err
	}
	if *chargers < 1 || *chargers > 900 {
		return fmt.Errorf("%d chargers; allowed are 1 to 900", *chargers)
	}
	d := &demonstration{screen: newScreen(os.Stdout), until: time.Now().Add(time.Duration(*seconds) * time.Second)}
	fmt.Println("Making a garage of network namespaces. Nothing of it is seen outside, and all of it ends with this program.")
	habits := sim.Firmware()
	// So that pings and a second call are seen within the demonstration.
	habits.KeepAlive, habits.Pulse = 10*time.Second, 10*time.Second
	habits.Reconnect, habits.ReconnectMax = 2*time.Second, 2*time.Second
	starting, cancel := context.WithTimeout(ctx, bootTime)
	defer cancel()
	garage, err := sim.Start(starting, sim.Options{
		Bin: *bin, Networks: []sim.Network{{Name: "P1", Chargers: *chargers}},
		Guests: []sim.Guest{{Name: rogue, Network: "P1"}}, Habits: habits, Progress: steps{},
	})
	if err != nil {
		return err
	}
	defer garage.Close()
	d.garage = garage
	if d.rogue, err = garage.Guest(rogue); err != nil {
		return err
	}
	defer d.rogue.PowerOff()
	if err := d.show(ctx); err != nil {
		return fmt.Errorf("%w\n\nthe daemon's last lines:\n%s", err, garage.Gateway.LastWords(15))
	}
	return nil
}

// show is the demonstration itself.
func (d *demonstration) show(ctx context.Context) error {
	fmt.Println("\nThe power comes back: every charger boots at once.")
	d.garage.PowerOn()
	d.rogue.PowerOn()
	if err := d.watchBoot(ctx); err != nil {
		return err
	}
	fmt.Printf("\nThe last of them was online %s after its power came back.\n", sim.Sum(d.garage.Views()).Percentile("online", 1).Round(time.Millisecond))
	if err := d.misbehave(ctx); err != nil {
		return err
	}
	if err := d.outage(ctx); err != nil {
		return err
	}
	fmt.Println("\nThe chargers talk with the cloud and keep their conversations alive.")
	if err := d.watchRest(ctx); err != nil {
		return err
	}
	return d.verdict(ctx)
}

// outage takes the hub away for a moment: a technician asks why a charger is
// offline, and everybody comes back by themselves.
func (d *demonstration) outage(ctx context.Context) error {
	name := d.garage.Chargers[len(d.garage.Chargers)-1].Name
	fmt.Println("\nThe hub of the cloud goes away. Everybody who talked with it is reset at once, and calls again.")
	d.garage.Cloud.StopHub()
	ctx, cancel := context.WithTimeout(ctx, bootTime)
	defer cancel()
	for told := false; !told; {
		text, err := d.garage.Gateway.Tool(ctx, "charger", name)
		if err != nil {
			return fmt.Errorf("asking why %s is offline: %w", name, err)
		}
		if told = strings.Contains(text, "Could not reach"); told {
			fmt.Printf("\nWhy is %s offline?  chargegate charger %s\n\n%s", name, name, indent(text))
		} else if !pause(ctx, 200*time.Millisecond) {
			return fmt.Errorf("the gateway does not say why %s is offline:\n%s", name, text)
		}
	}
	if err := d.garage.Cloud.StartHub(ctx); err != nil {
		return err
	}
	fmt.Println("\nThe hub is back.")
	d.screen.forget()
	return d.watchBoot(ctx)
}

func indent(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString("  " + line)
	}
	return b.String()
}

// watchBoot shows the daemon's own table until everybody is online.
func (d *demonstration) watchBoot(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, bootTime)
	defer cancel()
	for {
		if err := d.draw(ctx); err != nil {
			return err
		}
		stuck, err := d.garage.Stuck(ctx)
		if err == nil && len(stuck) == 0 && d.rogue.View().Well() {
			return d.draw(ctx)
		}
		if !pause(ctx, 500*time.Millisecond) {
			return errors.Join(fmt.Errorf("the garage is not online after %s", bootTime), d.reasons())
		}
	}
}

// reasons says who is stuck where.
func (d *demonstration) reasons() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	stuck, err := d.garage.Stuck(ctx)
	if err != nil {
		return err
	}
	if v := d.rogue.View(); !v.Well() {
		stuck = append(stuck, fmt.Sprintf("%s stands at %q in its own view: %s", v.Name, v.Stage, v.Trouble))
	}
	return errors.New(strings.Join(stuck, "\n"))
}

// draw shows what a technician sees: the output of chargegate status.
func (d *demonstration) draw(ctx context.Context) error {
	select {
	case <-d.garage.Gateway.Daemon.Ended():
		return fmt.Errorf("the daemon ended with %d", d.garage.Gateway.Daemon.Exit())
	default:
	}
	text, err := d.garage.Gateway.Tool(ctx, "status")
	if err != nil {
		return fmt.Errorf("asking the daemon: %w\n%s", err, text)
	}
	d.screen.show(text)
	return nil
}

// misbehave lets the rogue try what it has no business with, and prints what
// the journal says of it.
func (d *demonstration) misbehave(ctx context.Context) error {
	fmt.Printf("\n%s, which is online like the others, begins to misbehave. It tries\n\n", rogue)
	for _, a := range d.rogue.Misbehave(ctx, d.garage.Gateway.Address("P1")) {
		fmt.Printf("  %-40s  %s, after %s\n", a.What, a.Got, a.Took.Round(100*time.Microsecond))
		switch {
		case a.Reached:
			return fmt.Errorf("%s got through: %s", rogue, a)
		case a.Waited:
			return fmt.Errorf("%s was not refused at once: %s", rogue, a)
		}
	}
	fmt.Printf("\njournalctl -t chargegated CHARGER=%s would say\n\n", rogue)
	for _, e := range d.garage.Gateway.EventsOf(rogue) {
		fmt.Printf("  %s [%s]\n", e.Message, e.ID)
	}
	if seen := d.garage.Cloud.Witness.Sightings(); len(seen) > 0 {
		return fmt.Errorf("something got out that should not have:\n%s", strings.Join(seen, "\n"))
	}
	fmt.Println("\nAnd nothing of it reached the cloud: its witness saw no packet that should not have come.")
	return nil
}

// watchRest shows the table until the demonstration's time is over.
func (d *demonstration) watchRest(ctx context.Context) error {
	d.screen.forget()
	for {
		if err := d.draw(ctx); err != nil {
			return err
		}
		left := time.Until(d.until)
		if left <= 0 {
			return nil
		}
		if !pause(ctx, min(left, 2*time.Second)) {
			return fmt.Errorf("stopped before the end")
		}
	}
}

// verdict is the end: everybody is online and nothing got out, or an error that
// says what is wrong.
func (d *demonstration) verdict(ctx context.Context) error {
	stuck, err := d.garage.Stuck(ctx)
	if err != nil {
		return err
	}
	if len(stuck) > 0 {
		return fmt.Errorf("not every charger is online at the end:\n%s", strings.Join(stuck, "\n"))
	}
	if seen := d.garage.Cloud.Witness.Sightings(); len(seen) > 0 {
		return fmt.Errorf("something got out that should not have:\n%s", strings.Join(seen, "\n"))
	}
	pings := 0
	for _, v := range d.garage.Views() {
		pings += v.Pings
	}
	fmt.Printf("\nAll %d chargers are online, in their own view and in the gateway's; the hub answered %d pings;\n"+
		"%s was refused everything it had no business with, and nothing of that reached the cloud.\n", len(d.garage.Chargers), pings, rogue)
	return nil
}

// steps prints what is being made.
type steps struct{}

func (steps) Write(p []byte) (int, error) { return fmt.Printf("  %s", p) }

// pause waits, and reports whether ctx let it.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
