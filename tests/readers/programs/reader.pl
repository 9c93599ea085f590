# perl reader.pl ARCHIVE: names, one a line; with an entry's NAME behind it, its bytes.
use strict;
use warnings;
use Archive::Zip qw(:ERROR_CODES);
my ($archive, $wanted) = @ARGV;
my $zip = Archive::Zip->new();
$zip->read($archive) == AZ_OK or die "cannot be read\n";
if (defined $wanted) {
    my ($member) = grep { my $name = $_->fileName(); utf8::encode($name) if utf8::is_utf8($name); $name eq $wanted } $zip->members();
    binmode STDOUT;
    print scalar $member->contents();
} else {
    for ($zip->memberNames()) { my $name = $_; utf8::encode($name) if utf8::is_utf8($name); print "$name\n" }
}
