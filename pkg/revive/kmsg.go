package revive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A Line is one record of the kernel's log, as /dev/kmsg gives it (the kernel's
// Documentation/ABI/testing/dev-kmsg):
//
//	3,1187,79829386376,-;brcmfmac: brcmf_sdio_hostmail: mailbox indicates firmware halted
//	 SUBSYSTEM=sdio
//	 DEVICE=+sdio:mmc1:0001:1
type Line struct {
	Facility int // 0 is the kernel itself; whatever else writes there has another
	Level    int // 0 (emergency) to 7 (debug)
	Seq      uint64
	At       time.Duration // since the boot
	Text     string        // without escapes, and without the line's end
	// Device is whom the driver named, like "+sdio:mmc1:0001:1"; mostly empty.
	Device string
}

// errLine says that a record has another form than the kernel's.
var errLine = errors.New("this is no record of the kernel's log")

// ParseLine reads one record.
func ParseLine(data []byte) (Line, error) {
	head, rest, ok := bytes.Cut(data, []byte(";"))
	if !ok {
		return Line{}, errLine
	}
	fields := strings.Split(string(head), ",") // new kernels may add fields
	if len(fields) < 4 {
		return Line{}, errLine
	}
	prefix, err := strconv.ParseUint(fields[0], 10, 16)
	if err != nil {
		return Line{}, errLine
	}
	l := Line{Facility: int(prefix >> 3), Level: int(prefix & 7)}
	if l.Seq, err = strconv.ParseUint(fields[1], 10, 64); err != nil {
		return Line{}, errLine
	}
	micros, err := strconv.ParseInt(fields[2], 10, 53)
	if err != nil || micros < 0 {
		return Line{}, errLine
	}
	l.At = time.Duration(micros) * time.Microsecond
	text, more, _ := bytes.Cut(rest, []byte("\n"))
	l.Text = unescaped(string(text))
	for line := range bytes.Lines(more) {
		if value, ok := bytes.CutPrefix(line, []byte(" DEVICE=")); ok {
			l.Device = unescaped(string(bytes.TrimSuffix(value, []byte("\n"))))
		}
	}
	return l, nil
}

// unescaped turns \x0a into what it stands for. The kernel writes so whatever cannot
// be printed, and the backslash itself.
func unescaped(s string) string {
	if !strings.Contains(s, `\x`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if strings.HasPrefix(s[i:], `\x`) && i+4 <= len(s) {
			if c, err := strconv.ParseUint(s[i+2:i+4], 16, 8); err == nil {
				b.WriteByte(byte(c))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// maxLine is longer than the kernel's longest record (PRINTK_MESSAGE_MAX, 2048, and
// what the dictionary adds, in all CONSOLE_EXT_LOG_MAX, 8192).
const maxLine = 16 << 10

// follow hands over each record that the kernel writes from now on, until ctx is
// done. What it wrote before is not read: it was there for whoever ran before, and a
// restart of this service must not count it again. Records that were overwritten
// before they could be read are passed over.
func follow(ctx context.Context, path string, heard func(Line)) error {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	stop := context.AfterFunc(ctx, func() { f.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := f.Seek(0, 2); err != nil && !errors.Is(err, unix.ESPIPE) { // a pipe has no past
		return fmt.Errorf("going to its end: %w", err)
	}
	buf := make([]byte, maxLine)
	for {
		n, err := f.Read(buf)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, unix.EPIPE): // overwritten; the next read goes on behind it
			continue
		case err != nil:
			return err
		}
		if l, err := ParseLine(buf[:n]); err == nil {
			heard(l)
		}
	}
}
