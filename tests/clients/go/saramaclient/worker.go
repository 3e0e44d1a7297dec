package saramaclient

import (
	"errors"
	"time"

	"github.com/IBM/sarama"
	"plimsoll.example/clients/contract"
)

// worker keeps what was aborted: a member of a group cannot go back.
type worker struct {
	producer sarama.SyncProducer
	member   *member
	group    string
	topic    string
	again    []contract.Record
}

func (c *client) Worker(transactionalID, group, topic string) (contract.Worker, error) {
	settings := config()
	settings.Producer.Transaction.ID = transactionalID
	settings.Producer.Idempotent = true
	settings.Producer.RequiredAcks = sarama.WaitForAll
	settings.Net.MaxOpenRequests = 1
	settings.Producer.Return.Successes = true
	settings.Producer.Partitioner = sarama.NewManualPartitioner
	producer, err := sarama.NewSyncProducer(c.bootstrap, settings)
	if err != nil {
		return nil, err
	}
	joined, err := c.Member(group, topic, false)
	if err != nil {
		return nil, errors.Join(err, producer.Close())
	}
	return &worker{producer: producer, member: joined.(*member), group: group, topic: topic}, nil
}

func (w *worker) Take(count int, limit time.Duration) (records []contract.Record, _ error) {
	if len(w.again) > 0 {
		records, w.again = w.again, nil
		return records, nil
	}
	timeout := time.After(limit)
	for len(records) < count {
		select {
		case message := <-w.member.messages:
			records = append(records, toRecord(message))
		case <-timeout:
			w.member.lock.Lock()
			defer w.member.lock.Unlock()
			return records, w.member.failed
		}
	}
	return records, nil
}

func (w *worker) Begin() error { return w.producer.BeginTxn() }

func (w *worker) Send(topic string, records []contract.Record) error {
	return w.producer.SendMessages(messages(topic, records))
}

func (w *worker) Offsets(records []contract.Record) error {
	w.member.lock.Lock()
	session := w.member.session
	w.member.lock.Unlock()
	var places []*sarama.PartitionOffsetMetadata
	for partition, offset := range contract.Positions(records) {
		places = append(places, &sarama.PartitionOffsetMetadata{Partition: partition, Offset: offset})
	}
	who := sarama.NewConsumerGroupMetadata(w.group)
	who.GenerationID, who.MemberID = session.GenerationID(), session.MemberID()
	return w.producer.AddOffsetsToTxnWithGroupMetadata(map[string][]*sarama.PartitionOffsetMetadata{w.topic: places}, who)
}

func (w *worker) Commit() error { return w.producer.CommitTxn() }

func (w *worker) Abort(records []contract.Record) error {
	w.again = records
	return w.producer.AbortTxn()
}

func (w *worker) Close() error { return errors.Join(w.producer.Close(), w.member.Close()) }

func (c *client) Committed(group, topic string, partition int32) (int64, error) {
	found, err := c.admin.ListConsumerGroupOffsets(group, map[string][]int32{topic: {partition}})
	if err != nil {
		return 0, err
	}
	block := found.GetBlock(topic, partition)
	if block == nil {
		return -1, nil
	}
	return block.Offset, nil
}
