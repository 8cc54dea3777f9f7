package main

// usage is chargegated -h: what somebody needs who has found the program and
// not its manual.
const usage = `chargegated gives the chargers of a garage an address, names, the time and a
way to their cloud, and watches over each of them. systemd starts it; the tool
chargegate asks it how the chargers are.

  chargegated [-config FILE] [-state DIR] [-run DIR]
  chargegated -check [-config FILE]
  chargegated -version

Flags
  -check         say every fault of the configuration, of the inventory and of
                 the passphrase files, and what deserves a look, and end
  -config FILE   the configuration; /etc/chargegate/chargegate.toml by itself
  -state DIR     what must survive a power cut; /var/lib/chargegate
  -run DIR       sockets and locks; /run/chargegate
  -version       say which version this is, and end

Files
  /etc/chargegate/chargegate.toml   the configuration; it explains every line
  /etc/chargegate/chargers.csv      which charger stands in which parking space
  /etc/chargegate/*.psk             the password of each Wi-Fi
  /var/lib/chargegate/leases/       who has which address
  /var/lib/chargegate/volume/       what each device moved, a file for each day
  /var/lib/chargegate/signal        how each charger was heard, for 90 days
  /run/chargegate/status.sock       where the tool asks

Signals
  SIGHUP    take over the inventory, the site's own destinations, the signal
            thresholds and the log level: sudo systemctl reload chargegated
  SIGTERM   end, within five seconds

Exit codes
  0   asked to stop; with -check: no faults
  1   the configuration has faults, or the command line
  2   a socket or a permission was refused
  3   a service kept failing
`
