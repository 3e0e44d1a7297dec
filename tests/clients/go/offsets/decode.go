package main

import (
	"encoding/binary"
	"fmt"
)

// reader takes fields from the front; what is too short panics, which fails the check.
type reader struct{ left []byte }

func (r *reader) bytes(count int) []byte {
	taken := r.left[:count]
	r.left = r.left[count:]
	return taken
}

func (r *reader) int16() int { return int(int16(binary.BigEndian.Uint16(r.bytes(2)))) }
func (r *reader) int32() int { return int(int32(binary.BigEndian.Uint32(r.bytes(4)))) }
func (r *reader) int64() int64 {
	return int64(binary.BigEndian.Uint64(r.bytes(8)))
}

// string: null and empty are one.
func (r *reader) string() string {
	if length := r.int16(); length > 0 {
		return string(r.bytes(length))
	}
	return ""
}

func (r *reader) blob() []byte {
	if length := r.int32(); length > 0 {
		return r.bytes(length)
	}
	return nil
}

// place is the key of a committed offset.
type place struct {
	group, topic string
	partition    int
}

// member of a group, with the partitions of each topic that it owns.
type member struct {
	id, client string
	owned      map[string][]int
}

// group is what the coordinator writes of one with the classic protocol.
type group struct {
	generation       int
	protocol, leader string
	members          []member
}

// key gives a place, or a group's name, or neither for what is of the newer protocol.
func key(bytes []byte) (where place, name string) {
	r := reader{bytes}
	switch r.int16() {
	case 0, 1:
		where = place{group: r.string(), topic: r.string()}
		where.partition = r.int32()
	case 2:
		name = r.string()
	}
	return where, name
}

func offset(bytes []byte) int64 {
	r := reader{bytes}
	version := r.int16()
	if version < 0 || version > 4 || version == 2 {
		panic(fmt.Sprintf("the value of an offset has version %d", version))
	}
	return r.int64()
}

func metadata(bytes []byte) group {
	r := reader{bytes}
	version := r.int16()
	if version < 0 || version > 3 {
		panic(fmt.Sprintf("the value of a group has version %d", version))
	}
	if kind := r.string(); kind != "consumer" && kind != "" {
		panic("a group of type " + kind)
	}
	out := group{generation: r.int32(), protocol: r.string(), leader: r.string()}
	if version >= 2 {
		r.int64()
	}
	for left := r.int32(); left > 0; left-- {
		one := member{id: r.string(), owned: map[string][]int{}}
		if version == 3 {
			r.string()
		}
		one.client = r.string()
		r.string()
		if version >= 1 {
			r.int32()
		}
		r.int32()
		r.blob()
		if assigned := (reader{r.blob()}); len(assigned.left) > 0 {
			assigned.int16()
			for topics := assigned.int32(); topics > 0; topics-- {
				topic := assigned.string()
				for count := assigned.int32(); count > 0; count-- {
					one.owned[topic] = append(one.owned[topic], assigned.int32())
				}
			}
		}
		out.members = append(out.members, one)
	}
	if len(r.left) > 0 {
		panic(fmt.Sprintf("%d bytes behind a group", len(r.left)))
	}
	return out
}
