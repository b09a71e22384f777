// Package logs writes and reads the output of containers: files of lines
// `TIME stdout|stderr F|P TEXT`, the format of the CRI that log shippers read
// (P: the line goes on in the next record of that stream). The current file is
// output.log; output.log.N are those before it, the highest N the latest.
//
// Only stead writes these files; containers write into pipes.
package logs

// File is the name of the current log file in a container's log directory.
const File = "output.log"
