// sarama.
package main

import (
	"plimsoll.example/clients/contract"
	"plimsoll.example/clients/saramaclient"
)

func main() { contract.Main(saramaclient.Connect) }
