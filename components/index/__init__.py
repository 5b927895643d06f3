"""Stage `index`: one data set's folder into tables of its photos and boxes."""
