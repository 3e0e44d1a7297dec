package contract

import (
	"fmt"
	"os"
	"time"
)

// Worker is a transactional producer and a member of a group.
type Worker interface {
	// Take gives at most count of the group's next records.
	Take(count int, limit time.Duration) ([]Record, error)
	Begin() error
	// Send waits until the records are written.
	Send(topic string, records []Record) error
	// Offsets adds to the transaction where the group goes on after these records.
	Offsets(records []Record) error
	Commit() error
	// Abort makes Take give these records again.
	Abort(records []Record) error
	Close() error
}

// Positions is where a group goes on after these records.
func Positions(records []Record) map[int32]int64 {
	next := map[int32]int64{}
	for _, r := range records {
		next[r.Partition] = r.Offset + 1
	}
	return next
}

// transactions copies a topic in transactions, with the group's offsets; some are aborted, and a zombie changes nothing.
func transactions(c Client, topic string, _ int, _ string) {
	output, group := topic+"-out", topic+"-group"
	must(c.CreateTopic(topic, 2))
	must(c.CreateTopic(output, 2))
	sent := spread(400, 2, 40)
	must(c.Produce(topic, sent, "none"))
	written := copied(c, topic, output, group, len(sent))
	heir := supersede(c, topic, output)
	committed := append(sent, heir[1])
	starts := map[int32]int64{0: 0, 1: 0}
	sameByPartition(committed, must1(c.Read(output, starts, len(committed), wait, true)))
	written = append(written, heir...)
	expect(len(written) > len(committed)+40, "of %d records few were aborted", len(written))
	sameByPartition(written, must1(c.Read(output, starts, len(written), wait, false)))
	for partition := range int32(2) {
		found := must1(c.Committed(group, topic, partition))
		expect(found == 200, "the group's offset of %d is %d", partition, found)
	}
}

// copied aborts each third transaction. After the first of these another worker goes on where the last commit was,
// else the same worker goes back. It gives all that was written.
func copied(c Client, source, target, group string, count int) (written []Record) {
	worker := must1(c.Worker(group, group, source))
	defer func() { worker.Close() }()
	end := time.Now().Add(2 * wait)
	for turn, done := 0, 0; done < count; {
		expect(time.Now().Before(end), "%d of %d records copied", done, count)
		records := must1(worker.Take(40, 500*time.Millisecond))
		if len(records) == 0 {
			continue
		}
		turn++
		must(worker.Begin())
		must(worker.Send(target, records))
		must(worker.Offsets(records))
		written = append(written, records...)
		if turn%3 != 0 {
			must(worker.Commit())
			done += len(records)
			continue
		}
		must(worker.Abort(records))
		if turn == 3 {
			must(worker.Close())
			worker = must1(c.Worker(group, group, source))
		}
	}
	return written
}

// transactionLoop copies a topic in transactions while whoever runs this resets the connections; after an error another
// worker goes on where the last commit was. Readers of committed records get each once and in order.
func transactionLoop(c Client, topic string, _ int, _ string) {
	output, group := topic+"-out", topic+"-group"
	must(c.CreateTopic(topic, 2))
	must(c.CreateTopic(output, 2))
	sent := spread(2000, 2, 40)
	must(c.Produce(topic, sent, "none"))
	fmt.Println(`{"check": "transaction-loop", "connections": "reset"}`)
	loop(c, topic, output, group, 1000)
	fmt.Println(`{"check": "transaction-loop", "connections": "stay"}`)
	// After the last record of each partition, so that one that is there twice shows.
	ends := []Record{{Key: []byte("end"), Value: []byte("end")}, {Key: []byte("end"), Value: []byte("end"), Partition: 1}}
	must(c.Produce(output, ends, "none"))
	sent = append(sent, ends...)
	sameByPartition(sent, must1(c.Read(output, map[int32]int64{0: 0, 1: 0}, len(sent), wait, true)))
}

// loop ends when the group's offsets of both partitions are the wanted one.
func loop(c Client, source, target, group string, wanted int64) {
	var worker Worker
	var last error
	drop := func() {
		if worker != nil {
			worker.Close()
			worker = nil
		}
	}
	defer drop()
	for end := time.Now().Add(10 * wait); ; {
		expect(time.Now().Before(end), "not copied; the last error: %v", last)
		done, err := step(c, &worker, source, target, group, wanted)
		if err != nil {
			last = err
			fmt.Fprintln(os.Stderr, "another worker after", err)
			drop()
		} else if done {
			return
		}
	}
}

// step is one transaction, or a look at the group's offsets where nothing came.
func step(c Client, worker *Worker, source, target, group string, wanted int64) (done bool, err error) {
	if *worker == nil {
		if *worker, err = c.Worker(group, group, source); err != nil {
			*worker = nil
			return false, err
		}
	}
	records, err := (*worker).Take(40, 500*time.Millisecond)
	if err != nil {
		return false, err
	}
	if len(records) == 0 {
		for partition := range int32(2) {
			if found, err := c.Committed(group, source, partition); err != nil || found != wanted {
				return false, err
			}
		}
		return true, nil
	}
	for _, do := range []func() error{
		(*worker).Begin,
		func() error { return (*worker).Send(target, records) },
		func() error { return (*worker).Offsets(records) },
		(*worker).Commit,
	} {
		if err := do(); err != nil {
			return false, err
		}
	}
	time.Sleep(200 * time.Millisecond)
	return false, nil
}

// supersede: a second producer takes over a transactional id: the transaction of the first is aborted, and it is fenced.
func supersede(c Client, topic, target string) []Record {
	records := []Record{{Key: number(0), Value: []byte("zombie")}, {Key: number(1), Value: []byte("heir")}}
	zombie := must1(c.Worker(topic+"-id", topic+"-zombie", topic))
	defer zombie.Close()
	must(zombie.Begin())
	must(zombie.Send(target, records[:1]))
	heir := must1(c.Worker(topic+"-id", topic+"-heir", topic))
	defer heir.Close()
	must(heir.Begin())
	must(heir.Send(target, records[1:]))
	must(heir.Commit())
	started := time.Now()
	err := zombie.Commit()
	expect(err != nil, "the zombie committed")
	expect(time.Since(started) < wait/2, "the zombie was not fenced at once: %v", err)
	return records
}
