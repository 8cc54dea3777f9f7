package dhcp

// Datagram lets the tests from outside write a client's packets.
var Datagram = datagram
