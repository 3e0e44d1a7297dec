package main

import (
	"context"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"plimsoll.example/clients/contract"
)

// worker is the library's own loop of reading, writing and committing.
type worker struct{ session *kgo.GroupTransactSession }

func (c *client) Worker(transactionalID, group, topic string) (contract.Worker, error) {
	session, err := kgo.NewGroupTransactSession(kgo.SeedBrokers(c.bootstrap...), kgo.FetchMaxWait(100*time.Millisecond),
		kgo.TransactionalID(transactionalID), kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.RequireStableFetchOffsets(), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.SessionTimeout(10*time.Second), kgo.HeartbeatInterval(500*time.Millisecond))
	return &worker{session}, err
}

func (w *worker) Take(count int, limit time.Duration) ([]contract.Record, error) {
	ctx, cancel := context.WithTimeout(background, limit)
	defer cancel()
	return records(w.session.PollRecords(ctx, count))
}

func (w *worker) Begin() error { return w.session.Begin() }

func (w *worker) Send(topic string, all []contract.Record) error {
	var sent []*kgo.Record
	for _, r := range all {
		sent = append(sent, &kgo.Record{Topic: topic, Partition: r.Partition, Key: r.Key, Value: r.Value})
	}
	return w.session.ProduceSync(background, sent...).FirstErr()
}

// Offsets: the session commits what was polled when it ends.
func (w *worker) Offsets([]contract.Record) error { return nil }

func (w *worker) Commit() error {
	committed, err := w.session.End(background, kgo.TryCommit)
	if err == nil && !committed {
		err = errors.New("the session aborted")
	}
	return err
}

// Abort: the session goes back by itself.
func (w *worker) Abort([]contract.Record) error {
	_, err := w.session.End(background, kgo.TryAbort)
	return err
}

func (w *worker) Close() error {
	w.session.Close()
	return nil
}

func (c *client) Committed(group, topic string, partition int32) (int64, error) {
	found, err := c.admin.FetchOffsets(background, group)
	if err != nil {
		return 0, err
	}
	offset, there := found.Lookup(topic, partition)
	if !there {
		return -1, nil
	}
	return offset.At, offset.Err
}
