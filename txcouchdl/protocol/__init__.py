"""RFC 9110 in pure Python: ranges, conditions, multipart/byteranges, Content-Disposition."""
