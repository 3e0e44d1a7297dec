// Package contract holds the checks of both Go clients, written once over a small adapter
// (see ../../README.md).
package contract

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"time"
)

const wait = 60 * time.Second

// An hour ago: older than any clock difference, younger than any retention.
var firstTimestamp = time.Now().Add(-time.Hour).Truncate(time.Second).UnixMilli()

// Header is one name and value; a value may be nil.
type Header struct {
	Name  string
	Value []byte
}

// Record is what is sent and what comes back. Timestamp 0 lets the client choose.
type Record struct {
	Key, Value []byte
	Headers    []Header
	Partition  int32
	Timestamp  int64
	Offset     int64
}

// Member is one consumer of a group.
type Member interface {
	// Poll returns what comes within the time.
	Poll(time.Duration) ([]Record, error)
	Assignment() []int32
	// Commit stores the position after everything that Poll returned.
	Commit() error
	Close() error
}

// Client is what a library must offer.
type Client interface {
	Module() string
	Codecs() []string
	CreateTopic(topic string, partitions int32) error
	Produce(topic string, records []Record, codec string) error
	// Read assigns the partitions at these offsets and reads until count records came, those of committed
	// transactions alone or all.
	Read(topic string, starts map[int32]int64, count int, limit time.Duration, committed bool) ([]Record, error)
	// Member joins a group by the protocol of KIP-848 or by the classic one.
	Member(group, topic string, consumerProtocol bool) (Member, error)
	Worker(transactionalID, group, topic string) (Worker, error)
	// Committed is a group's offset, -1 for none.
	Committed(group, topic string, partition int32) (int64, error)
	// OffsetForTime gives the offset of the first record at or after the time, -1 for none.
	OffsetForTime(topic string, partition int32, timestamp int64) (int64, error)
	Close()
}

type mismatch string

// NotOffered is the error of what a library has no way to do.
type NotOffered string

func (n NotOffered) Error() string { return string(n) }

// skipped ends a check that these brokers cannot be put to.
type skipped string

// expect ends the check; runOne turns the panic into a failed line.
func expect(condition bool, format string, args ...any) {
	if !condition {
		panic(mismatch(fmt.Sprintf(format, args...)))
	}
}

func must(err error) {
	var absent NotOffered
	if errors.As(err, &absent) {
		panic(absent)
	}
	if err != nil {
		panic(mismatch(err.Error()))
	}
}

func must1[T any](value T, err error) T {
	must(err)
	return value
}

// pattern gives bytes that differ for each index and do not compress to nothing.
func pattern(index, length int) []byte {
	out := make([]byte, length)
	for j := range out {
		out[j] = byte(index + (j&0xff)*(index*2+1))
	}
	return out
}

func number(i int) []byte { return fmt.Appendf(nil, "%d", i) }

func equal(left, right []byte) bool {
	return bytes.Equal(left, right) && (left == nil) == (right == nil)
}

func sameRecord(left, right Record) bool {
	return equal(left.Key, right.Key) && equal(left.Value, right.Value) &&
		slices.EqualFunc(left.Headers, right.Headers, func(a, b Header) bool {
			// Neither library tells an empty header value from none.
			return a.Name == b.Name && bytes.Equal(a.Value, b.Value)
		})
}

func brief(r Record) string {
	cut := func(b []byte) string {
		if b == nil {
			return "nil"
		}
		return fmt.Sprintf("%d:%q", len(b), b[:min(len(b), 24)])
	}
	return fmt.Sprintf("key=%s value=%s headers=%d", cut(r.Key), cut(r.Value), len(r.Headers))
}

func same(sent, received []Record) {
	expect(len(sent) == len(received), "%d records sent, %d received", len(sent), len(received))
	for i := range sent {
		expect(sameRecord(sent[i], received[i]),
			"record %d: sent %s, received %s", i, brief(sent[i]), brief(received[i]))
	}
}

func of(records []Record, partition int32) (mine []Record) {
	for _, r := range records {
		if r.Partition == partition {
			mine = append(mine, r)
		}
	}
	return mine
}

// sameByPartition: equal bytes and order within each partition, nothing missing, nothing twice.
func sameByPartition(sent, received []Record) {
	expect(len(sent) == len(received), "%d records sent, %d received", len(sent), len(received))
	for partition := range int32(8) {
		mine := of(received, partition)
		for i := 1; i < len(mine); i++ {
			expect(mine[i].Offset > mine[i-1].Offset, "partition %d: order lost at %d", partition, mine[i].Offset)
		}
		same(of(sent, partition), mine)
	}
}

func spread(count, partitions, size int) []Record {
	records := make([]Record, count)
	for i := range records {
		records[i] = Record{Key: number(i), Value: pattern(i, size), Partition: int32(i % partitions)}
	}
	return records
}

func roundtrip(c Client, topic string, sent []Record, codec string) {
	must(c.CreateTopic(topic, 1))
	must(c.Produce(topic, sent, codec))
	same(sent, must1(c.Read(topic, map[int32]int64{0: 0}, len(sent), wait, false)))
}

func drain(members []Member, count int) (received []Record) {
	for end := time.Now().Add(wait); len(received) < count && time.Now().Before(end); {
		for _, m := range members {
			received = append(received, must1(m.Poll(100*time.Millisecond))...)
		}
	}
	return received
}

func settle(members []Member, wanted ...int) {
	var owned []int
	for end := time.Now().Add(wait); time.Now().Before(end); {
		owned = nil
		for _, m := range members {
			must1(m.Poll(100 * time.Millisecond))
			owned = append(owned, len(m.Assignment()))
		}
		if slices.Equal(owned, wanted) {
			return
		}
	}
	expect(false, "members own %v partitions, wanted %v", owned, wanted)
}

type check struct {
	name string
	run  func(c Client, topic string, records int, codec string)
}

var checks = []check{
	{"keys", keys}, {"nulls", nulls}, {"headers", headers}, {"codec", codecs}, {"sizes", sizes},
	{"bulk", bulk}, {"assign", assign}, {"subscribe", subscribe}, {"resume", resume},
	{"rebalance", rebalance}, {"time", times}, {"transactions", transactions},
	{"consumer-protocol", consumerProtocol}, {"transaction-loop", transactionLoop},
}

// named are checks that are run by their names alone.
var named = []string{"transaction-loop"}

func keys(c Client, topic string, _ int, _ string) {
	var sent []Record
	for i := range 200 {
		sent = append(sent, Record{Key: pattern(i, i%65), Value: pattern(i, 20)})
	}
	roundtrip(c, topic, append(sent, Record{Value: []byte("no key")}), "none")
}

func nulls(c Client, topic string, _ int, _ string) {
	roundtrip(c, topic, []Record{
		{Value: []byte("value")},
		{Key: []byte("tombstone")},
		{Key: []byte{}, Value: []byte{}},
		{Value: []byte{}},
		{Key: []byte{}},
		{Key: []byte("end"), Value: []byte("end")},
	}, "none")
}

func headers(c Client, topic string, _ int, _ string) {
	b := func(s string) []byte { return []byte(s) }
	var many []Header
	for i := range 100 {
		many = append(many, Header{fmt.Sprintf("h%d", i), pattern(i, i)})
	}
	roundtrip(c, topic, []Record{
		{Value: b("none")},
		{Value: b("one"), Headers: []Header{{"a", b("1")}}},
		{Value: b("twice"), Headers: []Header{{"a", b("1")}, {"b", b("x")}, {"a", b("2")}, {"a", b("1")}}},
		{Value: b("empty"), Headers: []Header{{"empty", b("")}, {"binary", pattern(7, 256)}}},
		{Value: b("null"), Headers: []Header{{"null", nil}, {"after", b("x")}}},
		{Value: b("many"), Headers: many},
	}, "none")
}

func codecs(c Client, topic string, _ int, codec string) {
	var sent []Record
	for i := range 500 {
		text := strings.Repeat(fmt.Sprintf("record %d of a compressible kind; ", i), 8)
		sent = append(sent, Record{Key: number(i), Value: []byte(text), Headers: []Header{{"codec", []byte(codec)}}})
	}
	roundtrip(c, topic, sent, codec)
}

func sizes(c Client, topic string, _ int, _ string) {
	var sent []Record
	for i, n := range []int{0, 1, 100, 1023, 4096, 16384, 65537, 250_000, 500_000, 900_000} {
		sent = append(sent, Record{Key: number(n), Value: pattern(i, n)})
	}
	roundtrip(c, topic, sent, "none")
}

func bulk(c Client, topic string, records int, _ string) {
	must(c.CreateTopic(topic, 3))
	sent := make([]Record, records)
	for i := range sent {
		sent[i] = Record{Key: number(i), Value: pattern(i, 10+i*37%200), Partition: int32(i % 3)}
	}
	must(c.Produce(topic, sent, "none"))
	starts := map[int32]int64{0: 0, 1: 0, 2: 0}
	sameByPartition(sent, must1(c.Read(topic, starts, len(sent), wait+time.Duration(records)*2*time.Millisecond, false)))
}

func assign(c Client, topic string, _ int, _ string) {
	must(c.CreateTopic(topic, 3))
	sent := spread(300, 3, 50)
	must(c.Produce(topic, sent, "none"))
	received := must1(c.Read(topic, map[int32]int64{1: 5}, 95, wait, false))
	expect(len(received) > 0 && received[0].Offset == 5, "the first record is not the one at 5")
	same(of(sent, 1)[5:], received)
}

func subscribe(c Client, topic string, _ int, _ string) {
	must(c.CreateTopic(topic, 3))
	sent := spread(600, 3, 50)
	must(c.Produce(topic, sent, "none"))
	member := must1(c.Member(topic+"-group", topic, false))
	defer member.Close()
	sameByPartition(sent, drain([]Member{member}, len(sent)))
	expect(len(member.Assignment()) == 3, "assigned %v, not all three", member.Assignment())
}

func resume(c Client, topic string, _ int, _ string) {
	must(c.CreateTopic(topic, 2))
	sent := spread(200, 2, 50)
	must(c.Produce(topic, sent[:80], "none"))
	member := must1(c.Member(topic+"-group", topic, false))
	first := drain([]Member{member}, 80)
	must(member.Commit())
	must(member.Close())
	must(c.Produce(topic, sent[80:], "none"))
	member = must1(c.Member(topic+"-group", topic, false))
	defer member.Close()
	rest := drain([]Member{member}, 120)
	rest = append(rest, must1(member.Poll(time.Second))...)
	sameByPartition(sent, append(first, rest...))
}

func rebalance(c Client, topic string, _ int, _ string) { share(c, topic, false) }

func consumerProtocol(c Client, topic string, _ int, _ string) {
	if os.Getenv("CONSUMER_PROTOCOL") != "yes" {
		panic(skipped("the broker does not serve ConsumerGroupHeartbeat"))
	}
	share(c, topic, true)
}

func share(c Client, topic string, consumerProtocol bool) {
	must(c.CreateTopic(topic, 4))
	first := must1(c.Member(topic+"-group", topic, consumerProtocol))
	defer first.Close()
	settle([]Member{first}, 4)
	second := must1(c.Member(topic+"-group", topic, consumerProtocol))
	both := []Member{first, second}
	settle(both, 2, 2)
	for _, partition := range first.Assignment() {
		expect(!slices.Contains(second.Assignment(), partition), "both members own %d", partition)
	}
	sent := spread(400, 4, 50)
	must(c.Produce(topic, sent, "none"))
	sameByPartition(sent, drain(both, 400))
	must(first.Commit())
	must(second.Commit())
	must(second.Close())
	settle([]Member{first}, 4)
	more := spread(100, 4, 60)
	must(c.Produce(topic, more, "none"))
	sameByPartition(more, drain([]Member{first}, 100))
}

func times(c Client, topic string, _ int, _ string) {
	must(c.CreateTopic(topic, 1))
	sent := make([]Record, 100)
	for i := range sent {
		sent[i] = Record{Value: number(i), Timestamp: firstTimestamp + int64(i)*1000}
	}
	must(c.Produce(topic, sent, "none"))
	for _, row := range [][2]int64{{0, 0}, {50_000, 50}, {50_001, 51}, {99_000, 99}} {
		found := must1(c.OffsetForTime(topic, 0, firstTimestamp+row[0]))
		expect(found == row[1], "offset for first+%d ms is %d, not %d", row[0], found, row[1])
	}
	received := must1(c.Read(topic, map[int32]int64{0: 50}, 50, wait, false))
	same(sent[50:], received)
	for i, r := range received {
		expect(r.Timestamp == sent[50+i].Timestamp, "timestamp %d at offset %d", r.Timestamp, r.Offset)
	}
}

type line struct {
	Check   string  `json:"check"`
	Codec   *string `json:"codec"`
	Ok      *bool   `json:"ok"`
	Detail  string  `json:"detail"`
	Seconds float64 `json:"seconds"`
	Skipped string  `json:"skipped,omitempty"`
}

func (l line) print() {
	text, err := json.Marshal(l)
	must(err)
	fmt.Println(string(text))
}

func runOne(c Client, one check, prefix string, records int, codec string) bool {
	topic := prefix + "-" + one.name
	fine, failed := true, false
	result := line{Check: one.name, Ok: &fine}
	if codec != "" {
		topic += "-" + codec
		result.Codec = &codec
	}
	started := time.Now()
	func() {
		defer func() {
			switch caught := recover().(type) {
			case nil:
			case NotOffered:
				result.Ok, result.Detail = nil, string(caught)
			case skipped:
				result.Ok, result.Skipped = nil, string(caught)
			default:
				result.Ok, result.Detail = &failed, fmt.Sprint(caught)
			}
		}()
		one.run(c, topic, records, codec)
	}()
	result.Seconds = time.Since(started).Seconds()
	result.print()
	return result.Ok != &failed
}

func version(module string) string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, dependency := range info.Deps {
			if dependency.Path == module {
				return dependency.Version
			}
		}
	}
	return ""
}

// Connect opens a library's client.
type Connect func(bootstrap []string, replicas int16) (Client, error)

// Main runs the checks of the contract that the command line asks for.
func Main(connect Connect) { run(connect, checks) }

// Own is a check that is not of the contract; an error or a panic fails it.
type Own struct {
	Name string
	Run  func(c Client, bootstrap []string, topic string) error
}

// MainOwn runs a program's own checks over a client.
func MainOwn(connect Connect, own []Own) {
	var bootstrap []string
	var all []check
	for _, one := range own {
		all = append(all, check{one.Name, func(c Client, topic string, _ int, _ string) {
			must(one.Run(c, bootstrap, topic))
		}})
	}
	run(func(addresses []string, replicas int16) (Client, error) {
		bootstrap = addresses
		return connect(addresses, replicas)
	}, all)
}

func run(connect Connect, checks []check) {
	bootstrap := flag.String("bootstrap", "", "HOST:PORT, several with commas between them")
	replicas := flag.Int("replicas", 1, "of each topic that is created")
	records := flag.Int("records", 10_000, "records of the bulk check")
	only := flag.String("check", "all", "one check, or all")
	prefix := flag.String("topic-prefix", "", "begins every topic name")
	flag.Parse()
	client, err := connect(strings.Split(*bootstrap, ","), int16(*replicas))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fine := true
	line{Check: "version", Ok: &fine, Detail: version(client.Module())}.print()
	for _, one := range checks {
		if *only != one.name && (*only != "all" || slices.Contains(named, one.name)) {
			continue
		}
		names := []string{""}
		if one.name == "codec" {
			names = client.Codecs()
		}
		for _, codec := range names {
			fine = runOne(client, one, *prefix, *records, codec) && fine
		}
	}
	client.Close()
	if !fine {
		os.Exit(1)
	}
}
