// go run reader.go ARCHIVE: names, one a line; with an entry's NAME behind it, its bytes.
package main

import (
	"archive/zip"
	"bufio"
	"fmt"
	"io"
	"log"
	"os"
)

func main() {
	archive, err := zip.OpenReader(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	for _, file := range archive.File {
		if len(os.Args) == 2 {
			fmt.Fprintln(out, file.Name)
		} else if file.Name == os.Args[2] {
			body, err := file.Open()
			if err != nil {
				log.Fatal(err)
			}
			if _, err = io.Copy(out, body); err != nil {
				log.Fatal(err)
			}
		}
	}
}
