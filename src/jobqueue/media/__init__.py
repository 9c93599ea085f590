"""Pictures: from foreign bytes to two WebP variants, in bounded memory and on the least processor time that looks the same."""
