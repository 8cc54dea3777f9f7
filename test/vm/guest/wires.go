package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
)

// prepare lays the wires of the garage while nothing else of the network has
// begun: eth0 leads to the namespace cloud, eth1 to the namespace site, and radios
// are the kernel's. The gateway's ends stay down; bringing them up is the system's.
func prepare() error {
	if _, err := os.Stat("/run/netns/cloud"); err == nil {
		return notify("READY=1") // the agent was started again
	}
	c := exec.Command("/bin/sh", "-ec", `
mkdir -p /run/netns
ip -batch - <<END
netns add cloud
netns add site
link add eth0 type veth peer name eth0 netns cloud
link add eth1 type veth peer name eth0 netns site
END
ip -n cloud -batch - <<END
link set lo up
link set eth0 up
addr add 203.0.113.1/24 dev eth0
addr add 203.0.113.66/24 dev eth0
END
ip -n site -batch - <<END
link set lo up
link set eth0 up
END
`)
	out, err := c.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("laying the wires: %w\n%s", err, out)
	}
	return errors.Join(err, notify("READY=1"))
}

// notify tells systemd that the wires are there, and what depends on them may begin.
func notify(state string) error {
	name := os.Getenv("NOTIFY_SOCKET")
	if name == "" {
		return nil
	}
	c, err := net.Dial("unixgram", name)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.Write([]byte(state))
	return err
}
