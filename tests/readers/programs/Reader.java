// java Reader.java ARCHIVE: names, one a line; with an entry's NAME behind it, its bytes. The class that `jar` uses.
import java.io.PrintStream;
import java.util.zip.ZipFile;

public class Reader {
    public static void main(String[] given) throws Exception {
        try (ZipFile zip = new ZipFile(given[0])) {
            if (given.length == 1) {
                PrintStream out = new PrintStream(System.out, false, "UTF-8");
                zip.stream().forEach(entry -> out.print(entry.getName() + "\n"));
                out.flush();
            } else {
                zip.getInputStream(zip.getEntry(given[1])).transferTo(System.out);
            }
        }
    }
}
