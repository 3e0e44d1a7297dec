// The topic __consumer_offsets as Burrow and other tools read it: by its bytes.
package main

import (
	"fmt"
	"time"

	"github.com/IBM/sarama"
	"plimsoll.example/clients/contract"
	"plimsoll.example/clients/saramaclient"
)

const (
	topicName = "__consumer_offsets"
	patience  = 30 * time.Second
)

// state is the topic's last value of each key; what a tombstone removed counts as removed.
type state struct {
	offsets map[place]int64
	groups  map[string]group
	removed map[string]bool
}

// load reads what is committed, from the start to the end as it is now.
func load(bootstrap []string) (state, error) {
	out := state{map[place]int64{}, map[string]group{}, map[string]bool{}}
	config := sarama.NewConfig()
	config.Version = sarama.MaxVersion
	config.Consumer.IsolationLevel = sarama.ReadCommitted
	config.Consumer.MaxWaitTime = 50 * time.Millisecond
	client, err := sarama.NewClient(bootstrap, config)
	if err != nil {
		return out, err
	}
	defer client.Close()
	partitions, err := client.Partitions(topicName)
	if err != nil {
		return out, err
	}
	consumer, err := sarama.NewConsumerFromClient(client)
	if err != nil {
		return out, err
	}
	defer consumer.Close()
	for _, partition := range partitions {
		end, err := client.GetOffset(topicName, partition, sarama.OffsetNewest)
		if err != nil {
			return out, err
		}
		if end > 0 {
			if err := out.take(consumer, partition, end); err != nil {
				return out, err
			}
		}
	}
	return out, nil
}

func (s state) take(consumer sarama.Consumer, partition int32, end int64) error {
	part, err := consumer.ConsumePartition(topicName, partition, sarama.OffsetOldest)
	if err != nil {
		return err
	}
	defer part.Close()
	// The last offsets may be markers, which do not come: then nothing comes for a while.
	for quiet := time.After(2 * time.Second); ; {
		select {
		case message := <-part.Messages():
			s.put(message)
			if message.Offset >= end-1 {
				return nil
			}
			quiet = time.After(2 * time.Second)
		case <-quiet:
			return nil
		}
	}
}

func (s state) put(message *sarama.ConsumerMessage) {
	where, name := key(message.Key)
	switch {
	case name != "" && message.Value == nil:
		delete(s.groups, name)
		s.removed[name] = true
	case name != "":
		s.groups[name] = metadata(message.Value)
	case where.group != "" && message.Value == nil:
		delete(s.offsets, where)
	case where.group != "":
		s.offsets[where] = offset(message.Value)
	}
}

// until loads again until the topic shows what is wanted; the last complaint if it does not.
func until(bootstrap []string, wanted func(state) error) error {
	for end := time.Now().Add(patience); ; {
		found, err := load(bootstrap)
		if err == nil {
			err = wanted(found)
		}
		if err == nil || time.Now().After(end) {
			return err
		}
		time.Sleep(200 * time.Millisecond)
	}
}

func records(count int) (all []contract.Record) {
	for i := range count {
		all = append(all, contract.Record{Value: fmt.Appendf(nil, "value %d", i), Partition: int32(i % 2)})
	}
	return all
}

func prepare(c contract.Client, topic string, partitions int32, count int) error {
	if err := c.CreateTopic(topic, partitions); err != nil {
		return err
	}
	return c.Produce(topic, records(count), "none")
}

// drain polls until count records came.
func drain(m contract.Member, count int) error {
	got := 0
	for end := time.Now().Add(patience); got < count; {
		some, err := m.Poll(100 * time.Millisecond)
		if err != nil {
			return err
		}
		if got += len(some); time.Now().After(end) {
			return fmt.Errorf("%d of %d records came", got, count)
		}
	}
	return nil
}

func both(name, topic string, wanted int64) func(state) error {
	return func(found state) error {
		for partition := range 2 {
			offset, there := found.offsets[place{name, topic, partition}]
			if !there || offset != wanted {
				return fmt.Errorf("offset %d of partition %d, not %d (there: %t)", offset, partition, wanted, there)
			}
		}
		return nil
	}
}

// offsets: what a group commits, and nothing of it when the group is deleted.
func offsets(c contract.Client, bootstrap []string, topic string) error {
	name := topic + "-group"
	if err := prepare(c, topic, 2, 100); err != nil {
		return err
	}
	m, err := c.Member(name, topic, false)
	if err != nil {
		return err
	}
	defer m.Close()
	if err := drain(m, 100); err != nil {
		return err
	}
	if err := m.Commit(); err != nil {
		return err
	}
	if err := until(bootstrap, both(name, topic, 50)); err != nil {
		return err
	}
	if err := m.Close(); err != nil {
		return err
	}
	config := sarama.NewConfig()
	config.Version = sarama.MaxVersion
	admin, err := sarama.NewClusterAdmin(bootstrap, config)
	if err != nil {
		return err
	}
	defer admin.Close()
	if err := admin.DeleteConsumerGroup(name); err != nil {
		return err
	}
	return until(bootstrap, func(found state) error {
		_, offsets := found.offsets[place{name, topic, 0}]
		if offsets || !found.removed[name] {
			return fmt.Errorf("deleted, but offsets are there: %t, and the group is not: %t", offsets, found.removed[name])
		}
		return nil
	})
}

// transactional: offsets count with the end of their transaction, and only if it is committed.
func transactional(c contract.Client, bootstrap []string, topic string) error {
	name := topic + "-group"
	if err := prepare(c, topic, 2, 80); err != nil {
		return err
	}
	worker, err := c.Worker(topic, name, topic)
	if err != nil {
		return err
	}
	defer worker.Close()
	for _, commit := range []bool{true, false} {
		places := []contract.Record{{Partition: 0, Offset: 19}, {Partition: 1, Offset: 19}}
		if !commit {
			places = []contract.Record{{Partition: 0, Offset: 39}, {Partition: 1, Offset: 39}}
		}
		for some := 0; some == 0; {
			got, err := worker.Take(40, time.Second)
			if err != nil {
				return err
			}
			some = len(got)
		}
		if err := worker.Begin(); err != nil {
			return err
		}
		if err := worker.Offsets(places); err != nil {
			return err
		}
		end := worker.Commit
		if !commit {
			end = func() error { return worker.Abort(nil) }
		}
		if err := end(); err != nil {
			return err
		}
		if err := until(bootstrap, both(name, topic, 20)); err != nil {
			return err
		}
	}
	return nil
}

// members: who owns what, while they are there.
func members(c contract.Client, bootstrap []string, topic string) error {
	name := topic + "-group"
	if err := prepare(c, topic, 4, 0); err != nil {
		return err
	}
	first, err := c.Member(name, topic, false)
	if err != nil {
		return err
	}
	defer first.Close()
	second, err := c.Member(name, topic, false)
	if err != nil {
		return err
	}
	err = until(bootstrap, func(found state) error {
		told := found.groups[name]
		owners := map[int]int{}
		for _, one := range told.members {
			for _, partition := range one.owned[topic] {
				owners[partition]++
			}
		}
		if len(told.members) != 2 || len(owners) != 4 || told.leader == "" || told.generation < 1 {
			return fmt.Errorf("two members own four partitions, but written is %+v", told)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := second.Close(); err != nil {
		return err
	}
	return until(bootstrap, func(found state) error {
		told := found.groups[name]
		if len(told.members) != 1 || len(told.members[0].owned[topic]) != 4 {
			return fmt.Errorf("one member owns four partitions, but written is %+v", told)
		}
		return nil
	})
}

func main() {
	contract.MainOwn(saramaclient.Connect, []contract.Own{
		{Name: "offsets", Run: offsets}, {Name: "transactional", Run: transactional}, {Name: "members", Run: members},
	})
}
